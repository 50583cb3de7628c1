# Permissions for Amazon MSK with IAM:
# https://docs.aws.amazon.com/msk/latest/developerguide/kafka-actions.html

locals {
  msk = var.msk == null ? {} : {
    # Topics and groups have the cluster's ARN with another resource type: arn:aws:kafka:…:cluster/NAME/ID.
    cluster = {
      arn    = var.msk.cluster_arn
      topics = [for topic in var.msk.topics : "${replace(var.msk.cluster_arn, ":cluster/", ":topic/")}/${topic}"]
      groups = [for group in var.msk.consumer_groups : "${replace(var.msk.cluster_arn, ":cluster/", ":group/")}/${group}"]
    }
  }
}

data "aws_iam_policy_document" "kafka_consumer" {
  for_each = local.msk

  statement {
    sid       = "Connect"
    actions   = ["kafka-cluster:Connect"]
    resources = [each.value.arn]
  }

  statement {
    sid       = "ReadTopics"
    actions   = ["kafka-cluster:DescribeTopic", "kafka-cluster:ReadData"]
    resources = each.value.topics
  }

  statement {
    sid       = "Group"
    actions   = ["kafka-cluster:DescribeGroup", "kafka-cluster:AlterGroup"]
    resources = each.value.groups
  }
}

data "aws_iam_policy_document" "kafka_compactor" {
  for_each = contains(keys(var.policy_arns), "compactor") ? local.msk : {}

  statement {
    sid       = "Connect"
    actions   = ["kafka-cluster:Connect"]
    resources = [each.value.arn]
  }

  statement {
    # It only reads the group's committed offsets.
    sid       = "Offsets"
    actions   = ["kafka-cluster:DescribeTopic", "kafka-cluster:DescribeGroup"]
    resources = concat(each.value.topics, each.value.groups)
  }
}

data "aws_iam_policy_document" "kafka_producer" {
  for_each = local.msk

  statement {
    sid = "Connect"
    # Idempotent producing is a permission on the cluster.
    actions   = ["kafka-cluster:Connect", "kafka-cluster:WriteDataIdempotently"]
    resources = [each.value.arn]
  }

  statement {
    sid = "WriteTopics"
    # It creates missing topics, reads their maximum message size, and reads back what has arrived.
    actions = [
      "kafka-cluster:CreateTopic",
      "kafka-cluster:DescribeTopic",
      "kafka-cluster:DescribeTopicDynamicConfiguration",
      "kafka-cluster:WriteData",
      "kafka-cluster:ReadData",
    ]
    resources = each.value.topics
  }
}

resource "aws_iam_role_policy" "kafka_consumer" {
  for_each = data.aws_iam_policy_document.kafka_consumer

  name   = "kafka"
  role   = aws_iam_role.this["consumer"].id
  policy = each.value.json
}

resource "aws_iam_role_policy" "kafka_compactor" {
  for_each = data.aws_iam_policy_document.kafka_compactor

  name   = "kafka"
  role   = aws_iam_role.this["compactor"].id
  policy = each.value.json
}

resource "aws_iam_role_policy" "kafka_producer" {
  for_each = data.aws_iam_policy_document.kafka_producer

  name   = "kafka"
  role   = aws_iam_role.this["producer"].id
  policy = each.value.json
}
