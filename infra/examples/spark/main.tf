# For topics whose compaction is too much for one machine (docs/scale.md): an EMR Serverless application that runs
# spark/compact.py, and the role of its jobs. The lake exists already, for example from examples/production.

locals {
  tags = { Name = var.name }

  code_arn = "arn:${data.aws_partition.current.partition}:s3:::${trimprefix(var.code_location, "s3://")}*"

  # Topics and groups have the cluster's ARN with another resource type: arn:aws:kafka:…:cluster/NAME/ID.
  topic_arn = replace(var.msk_cluster_arn, ":cluster/", ":topic/")
  group_arn = replace(var.msk_cluster_arn, ":cluster/", ":group/")
}

data "aws_partition" "current" {}

data "aws_subnet" "jobs" {
  id = var.subnet_ids[0]
}

resource "aws_security_group" "jobs" {
  name        = "${var.name}-jobs"
  description = "Jobs of Lakefeed on EMR Serverless"
  vpc_id      = data.aws_subnet.jobs.vpc_id
  tags        = local.tags
}

resource "aws_vpc_security_group_egress_rule" "all" {
  security_group_id = aws_security_group.jobs.id
  description       = "Brokers, S3 and Glue"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_ingress_rule" "workers" {
  security_group_id            = aws_security_group.jobs.id
  description                  = "Driver and executors"
  referenced_security_group_id = aws_security_group.jobs.id
  ip_protocol                  = "-1"
}

resource "aws_emrserverless_application" "this" {
  name          = var.name
  type          = "spark"
  release_label = var.release_label
  architecture  = "X86_64"

  # A job that is submitted starts it; nothing is billed while it is stopped.
  auto_start_configuration {
    enabled = true
  }

  auto_stop_configuration {
    enabled              = true
    idle_timeout_minutes = 5
  }

  maximum_capacity {
    cpu    = "${var.max_vcpu} vCPU"
    memory = "${var.max_vcpu * 4} GB"
  }

  network_configuration {
    subnet_ids         = var.subnet_ids
    security_group_ids = [aws_security_group.jobs.id]
  }

  tags = local.tags
}

data "aws_iam_policy_document" "emr" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["emr-serverless.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = [aws_emrserverless_application.this.arn]
    }
  }
}

resource "aws_iam_role" "job" {
  name               = "${var.name}-job"
  description        = "Lakefeed's compaction on EMR Serverless"
  assume_role_policy = data.aws_iam_policy_document.emr.json
  tags               = local.tags
}

# The permissions of `lakefeed-analytics compact`: there is one committer.
resource "aws_iam_role_policy_attachment" "compactor" {
  role       = aws_iam_role.job.name
  policy_arn = var.compactor_policy_arn
}

data "aws_iam_policy_document" "job" {
  statement {
    sid       = "ReadCode"
    actions   = ["s3:GetObject"]
    resources = [local.code_arn]
  }

  statement {
    sid       = "Connect"
    actions   = ["kafka-cluster:Connect"]
    resources = [var.msk_cluster_arn]
  }

  statement {
    # It only reads the group's committed offsets.
    sid     = "Offsets"
    actions = ["kafka-cluster:DescribeTopic", "kafka-cluster:DescribeGroup"]
    resources = concat(
      [for topic in var.topics : "${local.topic_arn}/${topic}"],
      ["${local.group_arn}/${var.consumer_group}"],
    )
  }
}

resource "aws_iam_role_policy" "job" {
  name   = "job"
  role   = aws_iam_role.job.id
  policy = data.aws_iam_policy_document.job.json
}
