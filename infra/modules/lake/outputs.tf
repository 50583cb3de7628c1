output "bucket" {
  description = "Name of the bucket."
  value       = aws_s3_bucket.this.id
}

output "database" {
  description = "Name of the Glue database."
  value       = aws_glue_catalog_database.this.name
}

output "crawler" {
  description = "Name of the crawler."
  value       = aws_glue_crawler.this.name
}

output "workgroup" {
  description = "Name of the Athena workgroup."
  value       = aws_athena_workgroup.this.name
}

output "crawler_role_arn" {
  description = "ARN of the crawler's role."
  value       = aws_iam_role.crawler.arn
}

output "policy_arns" {
  description = "ARNs of the policies of `consumer`, `analytics`, `compactor` and `maintain`, for roles that are created elsewhere, such as in modules/eks-access."
  value       = { for service, policy in aws_iam_policy.service : service => policy.arn }
}

output "role_arns" {
  description = "ARNs of the roles of `consumer`, `analytics`, `compactor` and `maintain`; none without trusted_arns."
  value       = { for service, role in aws_iam_role.service : service => role.arn }
}

output "policies" {
  description = "The policies of `consumer`, `analytics`, `compactor`, `maintain` and `crawler` as JSON."
  value = merge(
    { for service, each in local.services : service => each.policy },
    { crawler = data.aws_iam_policy_document.crawler.json },
  )
}

output "settings" {
  description = "Environment variables of the services that match these resources."
  value = {
    AWS_REGION                  = local.region
    LAKEFEED_TOPIC              = var.topics[0]
    LAKEFEED_TOPICS             = join(",", var.topics)
    LAKEFEED_BUCKET             = aws_s3_bucket.this.id
    LAKEFEED_LAYOUT             = var.layout
    LAKEFEED_EVENTS_PREFIX      = var.events_prefix
    LAKEFEED_BATCHES_PREFIX     = var.batches_prefix
    LAKEFEED_TABLES_PREFIX      = var.tables_prefix
    LAKEFEED_DEAD_LETTER_PREFIX = var.dead_letter_prefix
    LAKEFEED_GLUE_DATABASE      = aws_glue_catalog_database.this.name
    LAKEFEED_CRAWLER            = aws_glue_crawler.this.name
    LAKEFEED_CRAWLER_ROLE       = aws_iam_role.crawler.arn
    LAKEFEED_CRAWLER_SCHEDULE   = var.crawler_schedule == null ? "" : var.crawler_schedule
    LAKEFEED_WORKGROUP          = aws_athena_workgroup.this.name
    LAKEFEED_RESULTS_LOCATION   = "s3://${aws_s3_bucket.this.id}/${local.results_prefix}/"
    LAKEFEED_QUERY_BYTES_LIMIT  = tostring(var.query_bytes_limit)
  }
}
