-- Volatility of each company
-- The standard deviation of the daily logarithmic returns, and the same a year (252 trading days), in percent.
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
        "close",
        lag("close") over (partition by ticker order by "date") as previous_close
    from prices
    where "close" > 0 and "close" < 1e300
),

returns as (
    select
        ticker,
        ln("close" / previous_close) as daily_return
    from days
    where previous_close is not null
)

select
    ticker,
    count(*) as days,
    round(100.0 * stddev_samp(daily_return), 3) as daily_percent,
    round(100.0 * stddev_samp(daily_return) * sqrt(252), 3) as yearly_percent
from returns
group by ticker
order by yearly_percent desc, ticker
