# Minimal permissions of each component. tests/infra/test_rights.py compares them with the calls of the components, and
# tests/infra/unused_rights.yml gives the reason for permissions that no call uses.

data "aws_iam_policy_document" "consumer" {
  statement {
    # A consumer that was left running in the other layout cannot store anything.
    sid       = "CreateAndRead"
    actions   = ["s3:PutObject", "s3:GetObject"]
    resources = [local.layout_arn, local.dead_letter_arn]
  }

  statement {
    # For the whole bucket: with a condition on the prefix, S3 would answer requests for an object that does not exist
    # with 403 instead of 404.
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]
  }
}

data "aws_iam_policy_document" "analytics" {
  statement {
    sid       = "ReadEvents"
    actions   = ["s3:GetObject"]
    resources = [local.events_arn, local.batches_arn, local.tables_arn]
  }

  statement {
    sid       = "WriteResults"
    actions   = ["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = [local.results_arn]
  }

  statement {
    sid       = "List"
    actions   = ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"]
    resources = [local.bucket_arn]
  }

  statement {
    sid = "ReadCatalogue"
    actions = [
      "glue:GetDatabase",
      "glue:GetTable",
      "glue:GetTables",
      "glue:GetPartition",
      "glue:GetPartitions",
      "glue:BatchGetPartition",
    ]
    resources = local.table_arns
  }

  statement {
    # Athena checks it before each query.
    sid       = "DefaultDatabase"
    actions   = ["glue:GetDatabase"]
    resources = ["${local.glue_arn}:catalog", "${local.glue_arn}:database/default"]
  }

  statement {
    # Only Terraform creates and changes it.
    sid       = "Crawl"
    actions   = ["glue:GetCrawler", "glue:StartCrawler", "glue:StopCrawler"]
    resources = [local.crawler_arn]
  }

  statement {
    # Glue does not support single crawlers for these.
    sid       = "ReadCrawls"
    actions   = ["glue:ListCrawls", "glue:GetCrawlerMetrics"]
    resources = ["*"]
  }

  statement {
    sid = "Query"
    actions = [
      "athena:GetWorkGroup",
      "athena:StartQueryExecution",
      "athena:GetQueryExecution",
      "athena:BatchGetQueryExecution",
      "athena:GetQueryResults",
      "athena:StopQueryExecution",
      "athena:ListQueryExecutions",
    ]
    resources = [local.workgroup_arn]
  }
}

data "aws_iam_policy_document" "compactor" {
  statement {
    sid       = "ReadEvents"
    actions   = ["s3:GetObject"]
    resources = [local.events_arn, local.batches_arn]
  }

  statement {
    sid       = "WriteTables"
    actions   = ["s3:PutObject", "s3:GetObject"]
    resources = [local.tables_arn]
  }

  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]
  }

  statement {
    # Before each commit, PyIceberg looks up whether the database is one of S3 Tables.
    sid       = "CommitTables"
    actions   = ["glue:GetDatabase", "glue:GetTable", "glue:CreateTable", "glue:UpdateTable"]
    resources = local.table_arns
  }
}

data "aws_iam_policy_document" "maintain" {
  statement {
    # With VACUUM, Athena removes files with the permissions of the user who runs it.
    sid = "RewriteTables"
    actions = [
      "s3:PutObject",
      "s3:GetObject",
      "s3:DeleteObject",
      "s3:AbortMultipartUpload",
      "s3:ListMultipartUploadParts",
    ]
    resources = [local.tables_arn]
  }

  statement {
    sid       = "WriteResults"
    actions   = ["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = [local.results_arn]
  }

  statement {
    sid       = "List"
    actions   = ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"]
    resources = [local.bucket_arn]
  }

  statement {
    sid       = "CommitTables"
    actions   = ["glue:GetDatabase", "glue:GetTable", "glue:UpdateTable"]
    resources = local.table_arns
  }

  statement {
    # Athena checks it before each query.
    sid       = "DefaultDatabase"
    actions   = ["glue:GetDatabase"]
    resources = ["${local.glue_arn}:catalog", "${local.glue_arn}:database/default"]
  }

  statement {
    sid       = "Query"
    actions   = ["athena:StartQueryExecution", "athena:GetQueryExecution", "athena:StopQueryExecution"]
    resources = [local.workgroup_arn]
  }
}

data "aws_iam_policy_document" "crawler" {
  statement {
    sid       = "ReadEvents"
    actions   = ["s3:GetObject"]
    resources = [local.layout_arn]
  }

  statement {
    sid       = "List"
    actions   = ["s3:ListBucket", "s3:GetBucketLocation"]
    resources = [local.bucket_arn]
  }

  statement {
    sid = "FillCatalogue"
    actions = [
      "glue:GetDatabase",
      "glue:GetTable",
      "glue:GetTables",
      "glue:CreateTable",
      "glue:UpdateTable",
      "glue:GetPartition",
      "glue:GetPartitions",
      "glue:BatchGetPartition",
      "glue:CreatePartition",
      "glue:BatchCreatePartition",
      "glue:UpdatePartition",
      "glue:BatchUpdatePartition",
    ]
    resources = local.table_arns
  }

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["arn:${local.partition}:logs:${local.region}:${local.account}:log-group:/aws-glue/crawlers*"]
  }
}

resource "aws_iam_role" "crawler" {
  name               = local.crawler_role
  description        = "Glue's crawler: reads the events of ${var.bucket}, fills the database ${local.database}"
  assume_role_policy = data.aws_iam_policy_document.glue.json
  tags               = local.tags
}

resource "aws_iam_role_policy" "crawler" {
  name   = "crawl"
  role   = aws_iam_role.crawler.id
  policy = data.aws_iam_policy_document.crawler.json
}

data "aws_iam_policy_document" "glue" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["glue.amazonaws.com"]
    }
  }
}

locals {
  services = {
    consumer  = { policy = data.aws_iam_policy_document.consumer.json, does = "stores events in ${var.bucket}" }
    analytics = { policy = data.aws_iam_policy_document.analytics.json, does = "crawls and queries ${var.bucket}" }
    compactor = { policy = data.aws_iam_policy_document.compactor.json, does = "adds events to Iceberg tables of ${var.bucket}" }
    maintain  = { policy = data.aws_iam_policy_document.maintain.json, does = "maintains Iceberg tables of ${var.bucket}" }
  }
}

resource "aws_iam_policy" "service" {
  for_each = local.services

  name        = "${var.name}-${each.key}"
  description = "Lakefeed's ${each.key}: ${each.value.does}"
  policy      = each.value.policy
  tags        = local.tags
}

data "aws_iam_policy_document" "trusted" {
  count = length(var.trusted_arns) > 0 ? 1 : 0

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "AWS"
      identifiers = var.trusted_arns
    }
  }
}

resource "aws_iam_role" "service" {
  for_each = length(var.trusted_arns) > 0 ? local.services : {}

  name               = "${var.name}-${each.key}"
  description        = "Lakefeed's ${each.key}: ${each.value.does}"
  assume_role_policy = data.aws_iam_policy_document.trusted[0].json
  tags               = local.tags
}

resource "aws_iam_role_policy_attachment" "service" {
  for_each = aws_iam_role.service

  role       = each.value.name
  policy_arn = aws_iam_policy.service[each.key].arn
}
