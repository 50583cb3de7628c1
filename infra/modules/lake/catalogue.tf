resource "aws_glue_catalog_database" "this" {
  name        = local.database
  description = "Events stored by Lakefeed"
  tags        = local.tags
}

resource "aws_glue_crawler" "this" {
  name          = var.name
  description   = "Makes one table of each topic's folder"
  role          = aws_iam_role.crawler.arn
  database_name = aws_glue_catalog_database.this.name
  table_prefix  = var.layout == "batches" ? "batches_" : null
  schedule      = var.crawler_schedule
  tags          = local.tags

  dynamic "s3_target" {
    for_each = var.topics

    content {
      path = "s3://${aws_s3_bucket.this.bucket}/${local.layout_prefix}/${s3_target.value}/"
    }
  }

  schema_change_policy {
    update_behavior = "UPDATE_IN_DATABASE"
    delete_behavior = "LOG"
  }

  recrawl_policy {
    recrawl_behavior = "CRAWL_EVERYTHING"
  }

  configuration = jsonencode({
    Version = 1.0
    Grouping = {
      TableGroupingPolicy = "CombineCompatibleSchemas"
      # The bucket is level 1, so each topic's folder becomes one table.
      TableLevelConfiguration = 2 + length(split("/", local.layout_prefix))
    }
    CrawlerOutput = {
      Partitions = { AddOrUpdateBehavior = "InheritFromTable" }
    }
  })

  # Glue checks the role when the crawler is created.
  depends_on = [aws_iam_role_policy.crawler]
}

resource "aws_athena_workgroup" "this" {
  name          = var.name
  description   = "Queries of Lakefeed"
  force_destroy = true
  tags          = local.tags

  configuration {
    enforce_workgroup_configuration    = true
    publish_cloudwatch_metrics_enabled = true
    bytes_scanned_cutoff_per_query     = var.query_bytes_limit

    result_configuration {
      output_location = "s3://${aws_s3_bucket.this.id}/${local.results_prefix}/"

      encryption_configuration {
        encryption_option = "SSE_S3"
      }
    }
  }
}
