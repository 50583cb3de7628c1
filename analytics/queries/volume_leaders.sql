-- Volume leaders
-- The companies by traded volume, with each one's share of all and its busiest day.
with days as (
    select
        ticker,
        cast("date" as varchar) as day,
        try_cast(try_cast(volume as double) as bigint) as volume
    from "${table}"
),

companies as (
    select
        ticker,
        count(*) as days,
        cast(sum(volume) as bigint) as total_volume,
        avg(volume) as average_volume,
        max_by(day, volume) as busiest_day,
        max(volume) as busiest_volume
    from days
    where volume is not null
    group by ticker
)

select
    ticker,
    days,
    total_volume,
    round(100.0 * total_volume / nullif(cast(sum(total_volume) over () as double), 0), 2) as share_percent,
    round(average_volume, 0) as average_volume,
    busiest_day,
    busiest_volume
from companies
order by total_volume desc, ticker
