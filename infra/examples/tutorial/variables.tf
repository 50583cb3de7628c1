variable "region" {
  description = "AWS region; null takes AWS_REGION, or that of your profile."
  type        = string
  default     = null
}

variable "name" {
  description = "Name of all that is made; two tutorials in one account need two."
  type        = string
  default     = "lakefeed"
  nullable    = false
}

variable "bucket" {
  description = "Name of the bucket of the events. Nobody else in the world may have it."
  type        = string
  nullable    = false
}

variable "allowed_cidrs" {
  description = "Networks that may connect to Kafka: your own address, as `[\"203.0.113.7/32\"]`. `curl -s https://checkip.amazonaws.com` prints it."
  type        = list(string)
  nullable    = false
}

variable "topic" {
  description = "The topic, and the table that it becomes."
  type        = string
  default     = "demo_testing"
  nullable    = false
}

variable "ami_id" {
  description = "Image of the instance, which must be Debian 13. By default the newest one of Debian itself."
  type        = string
  default     = null
}

variable "budget_usd" {
  description = "US dollars a month that the account may cost before budget_emails are told."
  type        = number
  default     = 50
  nullable    = false
}

variable "budget_emails" {
  description = "Who is told when the budget is nearly spent. Without any there is no budget."
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
