-- Latest price of each company
-- The last day of each company with its close, and the change to the day before in percent.
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
        lag("close") over (partition by ticker order by "date") as previous_close,
        row_number() over (partition by ticker order by "date" desc) as newest
    from prices
    where abs("close") < 1e300
)

select
    ticker,
    day,
    "close",
    round(100.0 * ("close" - previous_close) / nullif(previous_close, 0), 2) as change_percent
from days
where newest = 1
order by ticker
