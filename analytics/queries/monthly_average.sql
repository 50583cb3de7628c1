-- Monthly average price of each company
-- The average, lowest and highest close of each month, and the traded volume.
select
    ticker,
    substr(cast("date" as varchar), 1, 7) as month,
    count(*) as days,
    round(avg("close"), 4) as average_close,
    min("close") as lowest_close,
    max("close") as highest_close,
    cast(sum(volume) as bigint) as volume
from "${table}"
group by ticker, substr(cast("date" as varchar), 1, 7)
order by ticker, month
