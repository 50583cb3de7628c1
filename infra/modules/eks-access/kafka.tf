# Rights at Amazon MSK with IAM, where they are rights of AWS:
# https://docs.aws.amazon.com/msk/latest/developerguide/kafka-actions.html

locals {
  # arn:aws:kafka:…:cluster/NAME/ID; topics and groups have ARNs of the same kind.
  msk    = var.msk_cluster_arn == null ? {} : { cluster = var.msk_cluster_arn }
  topics = [for topic in var.topics : "${replace(coalesce(var.msk_cluster_arn, "-"), ":cluster/", ":topic/")}/${topic}"]
  groups = [for group in var.consumer_groups : "${replace(coalesce(var.msk_cluster_arn, "-"), ":cluster/", ":group/")}/${group}"]
}

data "aws_iam_policy_document" "kafka_consumer" {
  for_each = local.msk

  statement {
    sid       = "Connect"
    actions   = ["kafka-cluster:Connect"]
    resources = [each.value]
  }

  statement {
    sid       = "ReadTopics"
    actions   = ["kafka-cluster:DescribeTopic", "kafka-cluster:ReadData"]
    resources = local.topics
  }

  statement {
    sid       = "Group"
    actions   = ["kafka-cluster:DescribeGroup", "kafka-cluster:AlterGroup"]
    resources = local.groups
  }
}

data "aws_iam_policy_document" "kafka_producer" {
  for_each = local.msk

  statement {
    sid = "Connect"
    # The producer is idempotent, which is a right on the cluster.
    actions   = ["kafka-cluster:Connect", "kafka-cluster:WriteDataIdempotently"]
    resources = [each.value]
  }

  statement {
    sid = "WriteTopics"
    # It reads back what has arrived, and makes a topic that is missing.
    actions = [
      "kafka-cluster:CreateTopic",
      "kafka-cluster:DescribeTopic",
      "kafka-cluster:WriteData",
      "kafka-cluster:ReadData",
    ]
    resources = local.topics
  }
}

resource "aws_iam_role_policy" "kafka_consumer" {
  for_each = data.aws_iam_policy_document.kafka_consumer

  name   = "kafka"
  role   = aws_iam_role.this["consumer"].id
  policy = each.value.json
}

resource "aws_iam_role_policy" "kafka_producer" {
  for_each = data.aws_iam_policy_document.kafka_producer

  name   = "kafka"
  role   = aws_iam_role.this["producer"].id
  policy = each.value.json
}
