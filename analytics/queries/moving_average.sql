-- Moving average of 20 days
-- The close of each day and its average over the last 20 trading days; empty before the 20th.
with prices as (
    select
        ticker,
        "date",
        try_cast("close" as double) as "close"
    from "${table}"
),

days as (
    select
        ticker,
        cast("date" as varchar) as day,
        "close",
        avg("close") over (
            partition by ticker order by "date" rows between 19 preceding and current row
        ) as average_20_days,
        row_number() over (partition by ticker order by "date") as position
    from prices
    where abs("close") < 1e300
)

select
    ticker,
    day,
    "close",
    case when position >= 20 then round(average_20_days, 4) end as average_20_days
from days
order by ticker, day
