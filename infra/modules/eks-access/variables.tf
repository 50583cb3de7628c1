variable "name" {
  description = "Prefix of the roles' names."
  type        = string
  default     = "lakefeed"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,38}[a-z0-9]$", var.name))
    error_message = "name is \"${var.name}\": use 3 to 40 lower case letters, digits and hyphens, beginning with a letter."
  }
}

variable "oidc_provider_arn" {
  description = "ARN of the IAM OIDC provider of the EKS cluster; `eksctl utils associate-iam-oidc-provider` creates one."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:oidc-provider/.+$", var.oidc_provider_arn))
    error_message = "oidc_provider_arn must look like arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/0123456789ABCDEF."
  }
}

variable "namespace" {
  description = "Namespace of the service accounts."
  type        = string
  default     = "lakefeed"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "namespace is \"${var.namespace}\": Kubernetes allows 1 to 63 lower case letters, digits and hyphens."
  }
}

variable "policy_arns" {
  description = "ARNs of the policies of `consumer`, `analytics` and, for Iceberg tables, `compactor` and `maintain`: the output policy_arns of modules/lake. Each one given has a role."
  # A map, because an ARN can be unknown until the policy exists, but not which services have one.
  type     = map(string)
  nullable = false

  validation {
    condition = length(setsubtract(["consumer", "analytics"], keys(var.policy_arns))) == 0 && (
      length(setsubtract(keys(var.policy_arns), ["consumer", "analytics", "compactor", "maintain"])) == 0
    )
    error_message = "policy_arns: give `consumer` and `analytics`, and of others only `compactor` and `maintain`."
  }
}

variable "msk" {
  description = "An Amazon MSK cluster with IAM: its ARN, the topics that producer and consumer use, and the consumer groups (LAKEFEED_CONSUMER_GROUP). Null for a broker with other authentication."
  type = object({
    cluster_arn     = string
    topics          = optional(list(string), ["demo_testing"])
    consumer_groups = optional(list(string), ["lakefeed-consumer"])
  })
  default = null

  validation {
    condition     = var.msk == null || try(length(var.msk.topics) > 0 && length(var.msk.consumer_groups) > 0, false)
    error_message = "msk: name at least one topic and one consumer group."
  }

  validation {
    condition = var.msk == null || try(alltrue([
      for name in concat(var.msk.topics, var.msk.consumer_groups) : can(regex("^[A-Za-z0-9._-]{1,249}$", name))
    ]), false)
    error_message = "msk: topics and consumer groups have 1 to 249 letters, digits, dots, hyphens and underscores. A wildcard would also allow others."
  }
}

variable "csv_locations" {
  description = "Folders in S3 from which the producer may read CSV files, such as `s3://bucket/csv/`. None by default."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for location in var.csv_locations : can(regex("^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([^*?]+/)?$", location))])
    error_message = "csv_locations: each must be a folder such as s3://bucket/csv/, with a slash at its end and no wildcard."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(lower(key), "aws:") && length(key) <= 128])
    error_message = "tags: a key must not begin with aws: and have at most 128 characters."
  }
}
