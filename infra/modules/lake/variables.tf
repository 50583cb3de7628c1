variable "name" {
  description = "Name of the lake: of the crawler, the workgroup and, with `_` for `-`, the database; what IAM holds begins with it. The services' own default is `lakefeed`."
  type        = string
  default     = "lakefeed"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,38}[a-z0-9]$", var.name))
    error_message = "name is \"${var.name}\": use 3 to 40 lower case letters, digits and hyphens, beginning with a letter."
  }
}

variable "bucket" {
  description = "Name of the bucket. Nobody else in the world may have it, so put something of your own into it."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "bucket is \"${var.bucket}\": use 3 to 63 lower case letters, digits and hyphens. A dot would break TLS, whose certificate covers one level of names."
  }
}

variable "topics" {
  description = "Topics whose events are catalogued, one table each; the first is the one that the consumer reads by default."
  type        = list(string)
  default     = ["demo_testing"]
  nullable    = false

  validation {
    condition     = length(var.topics) > 0 && alltrue([for topic in var.topics : can(regex("^[A-Za-z0-9._-]{1,249}$", topic))])
    error_message = "topics: name at least one; each has 1 to 249 letters, digits, dots, hyphens and underscores."
  }

  validation {
    condition     = length(distinct([for topic in var.topics : replace(lower(topic), "/[^a-z0-9_]/", "_")])) == length(var.topics)
    error_message = "topics: two of them would be the same table. A table's name is the topic's in lower case, with `_` for anything else than letters and digits."
  }
}

variable "events_prefix" {
  description = "First part of every event object's key."
  type        = string
  default     = "events"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", var.events_prefix))
    error_message = "events_prefix is \"${var.events_prefix}\": use letters, digits, `_`, `.` and `-`, with single slashes between and none at either end."
  }
}

variable "dead_letter_prefix" {
  description = "First part of every dead letter's key."
  type        = string
  default     = "dead-letters"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", var.dead_letter_prefix))
    error_message = "dead_letter_prefix is \"${var.dead_letter_prefix}\": use letters, digits, `_`, `.` and `-`, with single slashes between and none at either end."
  }

  validation {
    condition     = !startswith("${var.events_prefix}/", "${var.dead_letter_prefix}/") && !startswith("${var.dead_letter_prefix}/", "${var.events_prefix}/")
    error_message = "events_prefix and dead_letter_prefix must not contain one another: the crawler would take dead letters for events."
  }

  validation {
    condition = alltrue([
      for prefix in [var.events_prefix, var.dead_letter_prefix] :
      !startswith("${prefix}/", "athena-results/") && !startswith("athena-results/", "${prefix}/")
    ])
    error_message = "events_prefix and dead_letter_prefix must leave athena-results/ alone: it holds the results of queries, which expire."
  }
}

variable "crawler_schedule" {
  description = "When Glue starts a crawl by itself, such as `cron(15 0 * * ? *)` (UTC); null for never. The analytics service starts one for each new day in any case."
  type        = string
  default     = null

  validation {
    condition     = var.crawler_schedule == null || can(regex("^cron\\(([^ ]+ ){5}[^ ]+\\)$", var.crawler_schedule))
    error_message = "crawler_schedule must be a cron expression of six fields, such as cron(15 0 * * ? *), or null."
  }
}

variable "query_bytes_limit" {
  description = "Athena ends a query that has scanned this many bytes. 10 GB by default, which cost 5 cents."
  type        = number
  default     = 10000000000
  nullable    = false

  validation {
    condition     = var.query_bytes_limit >= 10000000 && floor(var.query_bytes_limit) == var.query_bytes_limit
    error_message = "query_bytes_limit must be a whole number of at least 10000000: Athena itself allows no less than 10 MB."
  }
}

variable "result_days" {
  description = "Days until the results of a query are deleted; they can be had again by the same query."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = var.result_days >= 1 && floor(var.result_days) == var.result_days
    error_message = "result_days must be a whole number of days, 1 or more."
  }
}

variable "dead_letter_days" {
  description = "Days until a dead letter is deleted; null keeps them for ever."
  type        = number
  default     = 365

  validation {
    condition     = var.dead_letter_days == null || try(var.dead_letter_days >= 1 && floor(var.dead_letter_days) == var.dead_letter_days, false)
    error_message = "dead_letter_days must be a whole number of days, 1 or more, or null."
  }
}

variable "noncurrent_days" {
  description = "Days for which the earlier version of an object can be had back after somebody replaced or deleted it."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.noncurrent_days >= 1 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "noncurrent_days must be a whole number of days, 1 or more."
  }
}

variable "force_destroy" {
  description = "Whether `terraform destroy` deletes a bucket that still holds events, and the events with it."
  type        = bool
  default     = false
  nullable    = false
}

variable "trusted_arns" {
  description = "Users and roles that may take the roles of the consumer and the analytics service, such as your own. Empty where neither role is needed, because modules/eks-access makes others."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.trusted_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(root|user/.+|role/.+)$", arn))])
    error_message = "trusted_arns: each must be the ARN of a user, a role or an account's root, such as arn:aws:iam::123456789012:user/me."
  }
}

variable "budget_usd" {
  description = "US dollars a month that the whole account may cost before the budget's e-mails are sent."
  type        = number
  default     = 50
  nullable    = false

  validation {
    condition     = var.budget_usd > 0
    error_message = "budget_usd must be more than 0."
  }
}

variable "budget_emails" {
  description = "Who is told by e-mail when 80 % of the budget is spent, or more than all of it is forecast. Without any there is no budget."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.budget_emails : can(regex("^[^@[:space:]]+@[^@[:space:]]+$", address))]) && length(var.budget_emails) <= 10
    error_message = "budget_emails: ten e-mail addresses at the most, such as me@example.com."
  }
}

variable "tags" {
  description = "Tags of everything that the module makes."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(lower(key), "aws:") && length(key) <= 128])
    error_message = "tags: a key must not begin with aws: and have at most 128 characters."
  }
}
