variable "name" {
  description = "Name of the crawler, the workgroup and, with `_` instead of `-`, the database; prefix of IAM names. The services' default is `lakefeed`."
  type        = string
  default     = "lakefeed"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,38}[a-z0-9]$", var.name))
    error_message = "name is \"${var.name}\": use 3 to 40 lower case letters, digits and hyphens, beginning with a letter."
  }
}

variable "bucket" {
  description = "Name of the bucket; must be globally unique."
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
    error_message = "topics: two of them would have the same table. The name of a table is the topic in lower case, with `_` instead of anything but letters and digits."
  }
}

variable "layout" {
  description = "How the consumer stores events, LAKEFEED_LAYOUT: `objects`, one object per event, or `batches`, many events per object. Stop all consumers before you change it."
  type        = string
  default     = "objects"
  nullable    = false

  validation {
    condition     = contains(["objects", "batches"], var.layout)
    error_message = "layout is \"${var.layout}\": it must be objects or batches."
  }
}

variable "events_prefix" {
  description = "Prefix of the keys of event objects."
  type        = string
  default     = "events"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", var.events_prefix))
    error_message = "events_prefix is \"${var.events_prefix}\": use letters, digits, `_`, `.` and `-`, with single slashes between and none at either end."
  }
}

variable "batches_prefix" {
  description = "Prefix of the keys of batch objects."
  type        = string
  default     = "batches"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", var.batches_prefix))
    error_message = "batches_prefix is \"${var.batches_prefix}\": use letters, digits, `_`, `.` and `-`, with single slashes between and none at either end."
  }
}

variable "tables_prefix" {
  description = "Prefix of the keys of Iceberg tables."
  type        = string
  default     = "tables"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", var.tables_prefix))
    error_message = "tables_prefix is \"${var.tables_prefix}\": use letters, digits, `_`, `.` and `-`, with single slashes between and none at either end."
  }
}

variable "dead_letter_prefix" {
  description = "Prefix of the keys of dead letters."
  type        = string
  default     = "dead-letters"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", var.dead_letter_prefix))
    error_message = "dead_letter_prefix is \"${var.dead_letter_prefix}\": use letters, digits, `_`, `.` and `-`, with single slashes between and none at either end."
  }

  validation {
    condition = alltrue([
      for pair in setproduct(
        [var.events_prefix, var.batches_prefix, var.tables_prefix, var.dead_letter_prefix],
        [var.events_prefix, var.batches_prefix, var.tables_prefix, var.dead_letter_prefix],
      ) : pair[0] == pair[1] || !startswith("${pair[0]}/", "${pair[1]}/")
    ]) && length(distinct([var.events_prefix, var.batches_prefix, var.tables_prefix, var.dead_letter_prefix])) == 4
    error_message = "events_prefix, batches_prefix, tables_prefix and dead_letter_prefix must not contain one another: the crawler would read the objects of one as those of another."
  }

  validation {
    condition = alltrue([
      for prefix in [var.events_prefix, var.batches_prefix, var.tables_prefix, var.dead_letter_prefix] :
      !startswith("${prefix}/", "athena-results/") && !startswith("athena-results/", "${prefix}/")
    ])
    error_message = "No prefix may overlap with athena-results/, which contains query results that expire."
  }
}

variable "crawler_schedule" {
  description = "Schedule on which Glue starts crawls, such as `cron(15 0 * * ? *)` (UTC); null for none. The analytics service starts one for each new day in any case."
  type        = string
  default     = null

  validation {
    condition     = var.crawler_schedule == null || can(regex("^cron\\(([^ ]+ ){5}[^ ]+\\)$", var.crawler_schedule))
    error_message = "crawler_schedule must be a cron expression of six fields, such as cron(15 0 * * ? *), or null."
  }
}

variable "query_bytes_limit" {
  description = "Athena cancels a query that has scanned this many bytes. 10 GB by default, which cost 5 cents."
  type        = number
  default     = 10000000000
  nullable    = false

  validation {
    condition     = var.query_bytes_limit >= 10000000 && floor(var.query_bytes_limit) == var.query_bytes_limit
    error_message = "query_bytes_limit must be a whole number of at least 10000000: Athena itself allows no less than 10 MB."
  }
}

variable "result_days" {
  description = "Days until the results of a query are deleted."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = var.result_days >= 1 && floor(var.result_days) == var.result_days
    error_message = "result_days must be a whole number of days, 1 or more."
  }
}

variable "dead_letter_days" {
  description = "Days until a dead letter is deleted; null keeps them indefinitely."
  type        = number
  default     = 365

  validation {
    condition     = var.dead_letter_days == null || try(var.dead_letter_days >= 1 && floor(var.dead_letter_days) == var.dead_letter_days, false)
    error_message = "dead_letter_days must be a whole number of days, 1 or more, or null."
  }
}

variable "noncurrent_days" {
  description = "Days for which the previous version of an object can be restored after it was replaced or deleted."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.noncurrent_days >= 1 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "noncurrent_days must be a whole number of days, 1 or more."
  }
}

variable "force_destroy" {
  description = "Whether `terraform destroy` deletes a bucket that contains events, including the events."
  type        = bool
  default     = false
  nullable    = false
}

variable "trusted_arns" {
  description = "Users and roles that may assume the roles of the services, such as your own. Empty if these roles are not needed, because modules/eks-access creates others."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.trusted_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(root|user/.+|role/.+)$", arn))])
    error_message = "trusted_arns: each must be the ARN of a user, a role or an account's root, such as arn:aws:iam::123456789012:user/me."
  }
}

variable "budget_usd" {
  description = "Monthly budget of the whole account in US dollars."
  type        = number
  default     = 50
  nullable    = false

  validation {
    condition     = var.budget_usd > 0
    error_message = "budget_usd must be more than 0."
  }
}

variable "budget_emails" {
  description = "E-mail addresses that are notified when 80 % of the budget is spent, or more than all of it is forecast. Without any there is no budget."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.budget_emails : can(regex("^[^@[:space:]]+@[^@[:space:]]+$", address))]) && length(var.budget_emails) <= 10
    error_message = "budget_emails: at most ten e-mail addresses, such as me@example.com."
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
