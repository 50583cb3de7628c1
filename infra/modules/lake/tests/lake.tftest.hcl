# What a plan promises. No credentials of a real account are needed: AWS_ENDPOINT_URL leads to a local one.

variables {
  bucket = "lake-test"
}

run "the_bucket_is_private_encrypted_and_versioned" {
  command = plan

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls,
      aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls,
      aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "The bucket could be made public."
  }

  assert {
    condition     = one(aws_s3_bucket_ownership_controls.this.rule).object_ownership == "BucketOwnerEnforced"
    error_message = "ACLs could give rights on objects."
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "The bucket is not encrypted."
  }

  assert {
    condition     = one(aws_s3_bucket_versioning.this.versioning_configuration).status == "Enabled"
    error_message = "The bucket keeps no earlier versions."
  }

  assert {
    condition     = aws_s3_bucket.this.force_destroy == false
    error_message = "A destroy would take the events with it."
  }

  assert {
    condition = jsondecode(aws_s3_bucket_policy.tls_only.policy) == {
      Version = "2012-10-17"
      Statement = [{
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = ["arn:aws:s3:::lake-test/*", "arn:aws:s3:::lake-test"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }]
    }
    error_message = "The bucket's policy is not TLS only: ${aws_s3_bucket_policy.tls_only.policy}"
  }
}

run "only_results_and_dead_letters_expire" {
  command = plan

  assert {
    condition = {
      for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.filter[0].prefix => rule.expiration[0].days
      if length(rule.expiration) > 0
    } == { "athena-results/" = 7, "dead-letters/" = 365 }
    error_message = "Something else expires, or not as it should."
  }

  assert {
    condition     = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.status == "Enabled"])
    error_message = "A rule is switched off."
  }
}

run "dead_letters_can_be_kept" {
  command = plan

  variables {
    dead_letter_days = null
  }

  assert {
    condition     = !contains([for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.id], "dead-letters")
    error_message = "Dead letters expire all the same."
  }
}

run "the_consumer_creates_and_reads_and_nothing_else" {
  command = plan

  assert {
    condition = jsondecode(aws_iam_policy.service["consumer"].policy) == {
      Version = "2012-10-17"
      Statement = [
        {
          Sid      = "CreateAndRead"
          Effect   = "Allow"
          Action   = ["s3:PutObject", "s3:GetObject"]
          Resource = ["arn:aws:s3:::lake-test/events/*", "arn:aws:s3:::lake-test/dead-letters/*"]
        },
        { Sid = "List", Effect = "Allow", Action = "s3:ListBucket", Resource = "arn:aws:s3:::lake-test" },
      ]
    }
    error_message = "The consumer's policy is another: ${aws_iam_policy.service["consumer"].policy}"
  }
}

run "in_batches_consumer_and_crawler_are_about_batches" {
  command = plan

  variables {
    layout         = "batches"
    batches_prefix = "raw/batches"
  }

  assert {
    condition = jsondecode(aws_iam_policy.service["consumer"].policy).Statement[0].Resource == [
      "arn:aws:s3:::lake-test/raw/batches/*", "arn:aws:s3:::lake-test/dead-letters/*",
    ]
    error_message = "The consumer may store in another layout: ${aws_iam_policy.service["consumer"].policy}"
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.crawler.policy).Statement[0].Resource == "arn:aws:s3:::lake-test/raw/batches/*"
    error_message = "The crawler may read something else than batches."
  }

  assert {
    condition = [for each in aws_glue_crawler.this.s3_target : each.path] == ["s3://lake-test/raw/batches/demo_testing/"] && (
      aws_glue_crawler.this.table_prefix == "batches_" &&
      jsondecode(aws_glue_crawler.this.configuration).Grouping.TableLevelConfiguration == 4
    )
    error_message = "The crawler is not about the topics' batches."
  }

  assert {
    condition     = output.settings.LAKEFEED_LAYOUT == "batches" && output.settings.LAKEFEED_BATCHES_PREFIX == "raw/batches"
    error_message = "The settings of the services differ from the crawler."
  }
}

run "only_maintenance_deletes_and_only_below_the_tables" {
  command = plan

  assert {
    condition = {
      for service, policy in aws_iam_policy.service : service => flatten([
        for each in jsondecode(policy.policy).Statement : each.Resource
        if anytrue([for action in flatten([each.Action]) : strcontains(action, "Delete")])
      ])
    } == { consumer = [], analytics = [], compactor = [], maintain = ["arn:aws:s3:::lake-test/tables/*"] }
    error_message = "Something else may delete, or something else is deleted."
  }

  assert {
    condition = toset(flatten([
      for each in jsondecode(aws_iam_policy.service["compactor"].policy).Statement : each.Resource
      if contains(flatten([each.Action]), "s3:PutObject")
    ])) == toset(["arn:aws:s3:::lake-test/tables/*"])
    error_message = "The compactor may write elsewhere."
  }

  assert {
    condition = alltrue([
      for action in flatten([
        for service in ["compactor", "maintain"] : [
          for each in jsondecode(aws_iam_policy.service[service].policy).Statement : each.Action
        ]
      ]) : !strcontains(action, "*")
    ])
    error_message = "A statement allows actions that do not exist yet."
  }
}

run "analytics_writes_results_only_and_changes_no_definition" {
  command = plan

  assert {
    condition = toset(flatten([
      for each in jsondecode(aws_iam_policy.service["analytics"].policy).Statement : each.Resource
      if contains(flatten([each.Action]), "s3:PutObject")
    ])) == toset(["arn:aws:s3:::lake-test/athena-results/*"])
    error_message = "The analytics service may write elsewhere."
  }

  assert {
    condition = alltrue([
      for action in flatten([for each in jsondecode(aws_iam_policy.service["analytics"].policy).Statement : each.Action]) :
      !strcontains(action, "*") && !can(regex(":(Create|Update|Delete|Put[^O]|PassRole)", action))
    ])
    error_message = "The analytics service may change what Terraform has made."
  }

  assert {
    condition = [
      for each in jsondecode(aws_iam_policy.service["analytics"].policy).Statement : each.Sid if each.Resource == "*"
    ] == ["ReadCrawls"]
    error_message = "Another statement is about everything."
  }
}

run "the_crawler_reads_events_and_deletes_nothing" {
  command = plan

  assert {
    condition = alltrue([
      for each in jsondecode(aws_iam_role_policy.crawler.policy).Statement :
      each.Effect == "Allow" && each.Resource != "*" && alltrue([
        for action in flatten([each.Action]) : !strcontains(action, "*") && !strcontains(action, "Delete")
      ])
    ])
    error_message = "The crawler may more than it needs: ${aws_iam_role_policy.crawler.policy}"
  }

  assert {
    condition = toset(flatten([
      for each in jsondecode(aws_iam_role_policy.crawler.policy).Statement : each.Resource
      if contains(flatten([each.Action]), "s3:GetObject")
    ])) == toset(["arn:aws:s3:::lake-test/events/*"])
    error_message = "The crawler may read something else than events."
  }

  assert {
    condition     = jsondecode(aws_iam_role.crawler.assume_role_policy).Statement[0].Principal == { Service = "glue.amazonaws.com" }
    error_message = "Principals other than Glue may assume the crawler's role."
  }
}

run "only_trusted_arns_may_assume_a_role" {
  command = plan

  assert {
    condition     = length(aws_iam_role.service) == 0
    error_message = "There are roles without trusted_arns."
  }
}

run "those_named_may_take_the_roles" {
  command = plan

  variables {
    trusted_arns = ["arn:aws:iam::123456789012:user/me"]
  }

  assert {
    condition     = toset(keys(aws_iam_role.service)) == toset(["consumer", "analytics", "compactor", "maintain"])
    error_message = "There is not one role for each service."
  }

  assert {
    condition = alltrue([
      for role in aws_iam_role.service :
      jsondecode(role.assume_role_policy).Statement[0].Principal == { AWS = "arn:aws:iam::123456789012:user/me" }
    ])
    error_message = "Principals outside trusted_arns may assume a role."
  }
}

run "the_workgroup_bounds_every_query" {
  command = plan

  assert {
    condition     = aws_athena_workgroup.this.configuration[0].enforce_workgroup_configuration && aws_athena_workgroup.this.configuration[0].bytes_scanned_cutoff_per_query == 10000000000
    error_message = "A client could go round the scan limit."
  }
}

run "the_crawler_makes_one_table_a_topic_below_any_prefix" {
  command = plan

  variables {
    events_prefix    = "raw/v1/events"
    topics           = ["prices", "Orders.eu"]
    crawler_schedule = "cron(15 0 * * ? *)"
  }

  assert {
    condition     = jsondecode(aws_glue_crawler.this.configuration).Grouping.TableLevelConfiguration == 5
    error_message = "The level of the topics' folders is another."
  }

  assert {
    condition     = output.settings.LAKEFEED_TOPICS == "prices,Orders.eu" && output.settings.LAKEFEED_CRAWLER_SCHEDULE == "cron(15 0 * * ? *)"
    error_message = "The settings of the services differ from the crawler."
  }
}

run "a_budget_requires_an_email_address" {
  command = plan

  assert {
    condition     = length(aws_budgets_budget.this) == 0
    error_message = "There is a budget without e-mail addresses."
  }
}

run "a_budget_tells_before_and_after" {
  command = plan

  variables {
    budget_usd    = 20
    budget_emails = ["me@example.com"]
  }

  assert {
    condition = toset([for each in aws_budgets_budget.this[0].notification : "${each.notification_type} ${each.threshold}"]) == toset([
      "ACTUAL 80", "FORECASTED 100",
    ])
    error_message = "The budget's alarms are others."
  }
}

run "a_bucket_with_a_dot_is_refused" {
  command = plan

  variables {
    bucket = "my.lake"
  }

  expect_failures = [var.bucket]
}

run "two_topics_of_one_table_are_refused" {
  command = plan

  variables {
    topics = ["prices.eu", "prices_eu"]
  }

  expect_failures = [var.topics]
}

run "prefixes_within_one_another_are_refused" {
  command = plan

  variables {
    dead_letter_prefix = "events/broken"
  }

  expect_failures = [var.dead_letter_prefix]
}

run "tables_among_the_batches_are_refused" {
  command = plan

  variables {
    tables_prefix = "batches/tables"
  }

  expect_failures = [var.dead_letter_prefix]
}

run "another_layout_is_refused" {
  command = plan

  variables {
    layout = "parquet"
  }

  expect_failures = [var.layout]
}

run "events_among_the_results_are_refused" {
  command = plan

  variables {
    events_prefix = "athena-results/events"
  }

  expect_failures = [var.dead_letter_prefix]
}

run "everybody_as_trusted_is_refused" {
  command = plan

  variables {
    trusted_arns = ["*"]
  }

  expect_failures = [var.trusted_arns]
}

run "a_limit_below_athenas_own_is_refused" {
  command = plan

  variables {
    query_bytes_limit = 1000000
  }

  expect_failures = [var.query_bytes_limit]
}

run "a_schedule_that_is_none_is_refused" {
  command = plan

  variables {
    crawler_schedule = "daily"
  }

  expect_failures = [var.crawler_schedule]
}
