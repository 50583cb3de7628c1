variable "region" {
  description = "AWS region; null for AWS_REGION, or that of your profile."
  type        = string
  default     = null
}

variable "name" {
  description = "Name of all resources."
  type        = string
  default     = "lakefeed"
  nullable    = false
}

variable "bucket" {
  description = "Name of the bucket of the events; must be globally unique."
  type        = string
  nullable    = false
}

variable "topics" {
  description = "Topics; each one has a table."
  type        = list(string)
  default     = ["demo_testing"]
  nullable    = false
}

variable "eks_cluster" {
  description = "Name of the EKS cluster that runs the services; it needs an IAM OIDC provider."
  type        = string
  nullable    = false
}

variable "namespace" {
  description = "Namespace of the services in that cluster."
  type        = string
  default     = "lakefeed"
  nullable    = false
}

variable "broker_subnet_ids" {
  description = "Private subnets of the cluster's VPC for the brokers: three, each in another availability zone."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.broker_subnet_ids) == 3 && length(distinct(var.broker_subnet_ids)) == 3
    error_message = "broker_subnet_ids: three subnets are required. Each event has three replicas, one per zone, so that a zone may fail."
  }
}

variable "client_security_group_ids" {
  description = "Security groups of additional clients of the brokers; that of the EKS cluster is always allowed."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "kafka_version" {
  description = "Kafka version as named by Amazon MSK; must use ZooKeeper."
  type        = string
  default     = "3.9.x"
  nullable    = false

  validation {
    condition     = !strcontains(var.kafka_version, "kraft")
    error_message = "kafka_version is \"${var.kafka_version}\": use one with ZooKeeper, such as 3.9.x."
  }
}

variable "broker_type" {
  description = "Instance type of the brokers."
  type        = string
  default     = "kafka.m7g.large"
  nullable    = false

  validation {
    condition     = startswith(var.broker_type, "kafka.")
    error_message = "broker_type is \"${var.broker_type}\": MSK's types begin with kafka., such as kafka.m7g.large."
  }
}

variable "broker_volume_gib" {
  description = "Size of each broker's volume in GiB."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.broker_volume_gib >= 1 && var.broker_volume_gib <= 16384 && floor(var.broker_volume_gib) == var.broker_volume_gib
    error_message = "broker_volume_gib is ${var.broker_volume_gib}: must be a whole number from 1 to 16384."
  }
}

variable "csv_locations" {
  description = "Folders in S3 from which the producer may read CSV files, such as `s3://bucket/csv/`."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "layout" {
  description = "How the consumer stores events: `objects`, one object per event, or `batches`, many events per object. Stop all consumers before you change it."
  type        = string
  default     = "objects"
  nullable    = false
}

variable "budget_usd" {
  description = "Monthly budget of the account in US dollars; budget_emails are notified."
  type        = number
  default     = 1000
  nullable    = false
}

variable "budget_emails" {
  description = "E-mail addresses that are notified when the budget is nearly spent. Without any there is no budget."
  type        = list(string)
  default     = []
  nullable    = false
}
