variable "region" {
  description = "AWS region; null for AWS_REGION, or that of your profile."
  type        = string
  default     = null
}

variable "name" {
  description = "Name of all resources; must be unique in the account."
  type        = string
  default     = "lakefeed"
  nullable    = false
}

variable "bucket" {
  description = "Name of the bucket of the events; must be globally unique."
  type        = string
  nullable    = false
}

variable "allowed_cidrs" {
  description = "Networks that may connect to Kafka: your own address, as `[\"203.0.113.7/32\"]`. `curl -s https://checkip.amazonaws.com` prints it."
  type        = list(string)
  nullable    = false
}

variable "topic" {
  description = "The topic, which is also the name of the table."
  type        = string
  default     = "demo_testing"
  nullable    = false
}

variable "ami_id" {
  description = "Image of the instance, which must be Debian 13. By default Debian's newest."
  type        = string
  default     = null
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
  default     = 50
  nullable    = false
}

variable "budget_emails" {
  description = "E-mail addresses that are notified when the budget is nearly spent. Without any there is no budget."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "delete_events" {
  description = "Whether `terraform destroy` deletes the events, and Kafka's volume without a last snapshot. Set it, apply, then destroy."
  type        = bool
  default     = false
  nullable    = false
}
