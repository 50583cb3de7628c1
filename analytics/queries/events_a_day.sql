-- Events per day
-- Number of events that arrived on each day (UTC), number of companies, and range of dates.
select
    dt as day,
    count(*) as events,
    count(distinct ticker) as companies,
    min(cast("date" as varchar)) as first_date,
    max(cast("date" as varchar)) as last_date
from "${table}"
group by dt
order by dt
