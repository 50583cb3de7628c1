# Bucket, catalogue and permissions of one lake. Names and definitions are those of the analytics service
# (analytics/lakefeed_analytics/ensure.py), so that it finds nothing to change.

data "aws_partition" "current" {}
data "aws_region" "current" {}
data "aws_caller_identity" "current" {}

locals {
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.name
  account   = data.aws_caller_identity.current.account_id

  database       = replace(var.name, "-", "_")
  crawler_role   = "${var.name}-crawler"
  results_prefix = "athena-results"

  # What the consumer stores and the crawler reads.
  layout_prefix = var.layout == "batches" ? var.batches_prefix : var.events_prefix
  layout_arn    = var.layout == "batches" ? local.batches_arn : local.events_arn

  tags = merge({ Project = "lakefeed" }, var.tags)

  # Built from names instead of resource attributes, so that a plan shows the complete policies.
  bucket_arn      = "arn:${local.partition}:s3:::${var.bucket}"
  events_arn      = "${local.bucket_arn}/${var.events_prefix}/*"
  batches_arn     = "${local.bucket_arn}/${var.batches_prefix}/*"
  tables_arn      = "${local.bucket_arn}/${var.tables_prefix}/*"
  dead_letter_arn = "${local.bucket_arn}/${var.dead_letter_prefix}/*"
  results_arn     = "${local.bucket_arn}/${local.results_prefix}/*"
  glue_arn        = "arn:${local.partition}:glue:${local.region}:${local.account}"
  crawler_arn     = "${local.glue_arn}:crawler/${var.name}"
  workgroup_arn   = "arn:${local.partition}:athena:${local.region}:${local.account}:workgroup/${var.name}"
  # Glue checks the permission on a table, its database and the catalogue.
  table_arns = [
    "${local.glue_arn}:catalog",
    "${local.glue_arn}:database/${local.database}",
    "${local.glue_arn}:table/${local.database}/*",
  ]
}
