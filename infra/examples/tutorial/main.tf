# The tutorial: one Kafka instance, one bucket, a catalogue and SQL queries.

data "aws_caller_identity" "current" {}

# The role of a session, because the ARN of the session itself changes.
data "aws_iam_session_context" "current" {
  arn = data.aws_caller_identity.current.arn
}

data "aws_region" "current" {}

# The oldest zone of us-east-1, which has another letter in each account, has no t3 instances.
data "aws_availability_zones" "this" {
  exclude_zone_ids = ["use1-az3"]
}

data "aws_subnets" "public" {
  filter {
    name   = "default-for-az"
    values = ["true"]
  }

  filter {
    name   = "availability-zone"
    values = data.aws_availability_zones.this.names
  }

  lifecycle {
    postcondition {
      condition     = length(self.ids) > 0
      error_message = "This region has no default VPC. `aws ec2 create-default-vpc` creates one, free of charge."
    }
  }
}

module "kafka" {
  source = "../../modules/kafka-ec2"

  name           = "${var.name}-kafka"
  subnet_id      = sort(data.aws_subnets.public.ids)[0]
  allowed_cidrs  = var.allowed_cidrs
  ami_id         = var.ami_id
  topic          = var.topic
  final_snapshot = !var.delete_events
}

module "lake" {
  source = "../../modules/lake"

  name          = var.name
  bucket        = var.bucket
  topics        = [var.topic]
  layout        = var.layout
  trusted_arns  = [data.aws_iam_session_context.current.issuer_arn]
  budget_usd    = var.budget_usd
  budget_emails = var.budget_emails
  force_destroy = var.delete_events
}
