-- Monthly average price of each company
-- The average, lowest and highest close of each month, and the traded volume.
with prices as (
    select
        ticker,
        substr(cast("date" as varchar), 1, 7) as month,
        try_cast("close" as double) as "close",
        try_cast(try_cast(volume as double) as bigint) as volume
    from "${table}"
)

select
    ticker,
    month,
    count(*) as days,
    round(avg("close"), 4) as average_close,
    min("close") as lowest_close,
    max("close") as highest_close,
    cast(sum(volume) as bigint) as volume
from prices
where abs("close") < 1e300
group by ticker, month
order by ticker, month
