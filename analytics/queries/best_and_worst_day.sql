-- Best and worst day of each company
-- The days with the greatest rise and fall of the close against the day before, in percent.
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
        lag("close") over (partition by ticker order by "date") as previous_close
    from prices
    where abs("close") < 1e300
),

changes as (
    select
        ticker,
        day,
        100.0 * ("close" - previous_close) / nullif(previous_close, 0) as change_percent
    from days
    where previous_close is not null
)

select
    ticker,
    max_by(day, change_percent) as best_day,
    round(max(change_percent), 2) as best_percent,
    min_by(day, change_percent) as worst_day,
    round(min(change_percent), 2) as worst_percent
from changes
group by ticker
order by ticker
