variable "region" {
  description = "AWS region; null for AWS_REGION, or that of your profile."
  type        = string
  default     = null
}

variable "name" {
  description = "Name of all resources."
  type        = string
  default     = "lakefeed-spark"
  nullable    = false
}

variable "compactor_policy_arn" {
  description = "ARN of the lake's policy for `compactor`: output policy_arns of modules/lake."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:iam::\\d{12}:policy/", var.compactor_policy_arn))
    error_message = "compactor_policy_arn is \"${var.compactor_policy_arn}\": use the ARN of a policy, such as arn:aws:iam::123456789012:policy/lakefeed-compactor."
  }
}

variable "code_location" {
  description = "Folder in S3 of the job's archive and script, such as `s3://bucket/spark/`."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([^*?]+/)$", var.code_location))
    error_message = "code_location is \"${var.code_location}\": must be a folder such as s3://bucket/spark/, with a slash at its end and no wildcard."
  }
}

variable "subnet_ids" {
  description = "Private subnets of the brokers' VPC, with a NAT gateway or endpoints of S3 and Glue."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.subnet_ids) > 0
    error_message = "subnet_ids: at least one subnet is required, from which the brokers can be reached."
  }
}

variable "msk_cluster_arn" {
  description = "ARN of the MSK cluster: output msk_cluster_arn of examples/production."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:kafka:[a-z0-9-]+:\\d{12}:cluster/[^/*]+/[^/*]+$", var.msk_cluster_arn))
    error_message = "msk_cluster_arn is \"${var.msk_cluster_arn}\": use the ARN of a cluster, without a wildcard."
  }
}

variable "topics" {
  description = "Topics to compact."
  type        = list(string)
  default     = ["demo_testing"]
  nullable    = false

  validation {
    condition     = length(var.topics) > 0 && alltrue([for topic in var.topics : can(regex("^[A-Za-z0-9._-]{1,249}$", topic))])
    error_message = "topics have 1 to 249 letters, digits, dots, hyphens and underscores. A wildcard would also allow others."
  }
}

variable "consumer_group" {
  description = "Consumer group whose committed offsets say what is complete in the bucket."
  type        = string
  default     = "lakefeed-consumer"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]{1,249}$", var.consumer_group))
    error_message = "consumer_group has 1 to 249 letters, digits, dots, hyphens and underscores."
  }
}

variable "release_label" {
  description = "Release of EMR; one with Spark 3.5."
  type        = string
  default     = "emr-7.9.0"
  nullable    = false

  validation {
    condition     = startswith(var.release_label, "emr-7.")
    error_message = "release_label is \"${var.release_label}\": use a release with Spark 3.5, such as emr-7.9.0."
  }
}

variable "max_vcpu" {
  description = "Most vCPUs of all jobs together, each with 4 GB of memory: the limit of the costs."
  type        = number
  default     = 32
  nullable    = false

  validation {
    condition     = var.max_vcpu >= 4 && floor(var.max_vcpu) == var.max_vcpu
    error_message = "max_vcpu is ${var.max_vcpu}: must be a whole number of 4 or more, for a driver and an executor."
  }
}
