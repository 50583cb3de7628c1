variables {
  oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/ABCDEF"
  policy_arns = {
    consumer  = "arn:aws:iam::123456789012:policy/lakefeed-consumer"
    analytics = "arn:aws:iam::123456789012:policy/lakefeed-analytics"
  }
}

run "each_role_is_of_one_service_account" {
  command = plan

  assert {
    condition = alltrue([
      for service in ["consumer", "analytics", "producer"] : jsondecode(aws_iam_role.this[service].assume_role_policy) == {
        Version = "2012-10-17"
        Statement = [{
          Effect    = "Allow"
          Action    = "sts:AssumeRoleWithWebIdentity"
          Principal = { Federated = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/ABCDEF" }
          Condition = {
            StringEquals = {
              "oidc.eks.eu-central-1.amazonaws.com/id/ABCDEF:aud" = "sts.amazonaws.com"
              "oidc.eks.eu-central-1.amazonaws.com/id/ABCDEF:sub" = "system:serviceaccount:lakefeed:${service}"
            }
          }
        }]
      }
    ])
    error_message = "Another service account could take a role."
  }

  assert {
    condition = { for service, each in aws_iam_role_policy_attachment.lake : service => each.policy_arn } == {
      consumer  = var.policy_arns.consumer
      analytics = var.policy_arns.analytics
    }
    error_message = "A role has another policy than the lake's."
  }

  assert {
    condition     = length(aws_iam_role.this) == 3 && length(aws_iam_role_policy.kafka_consumer) + length(aws_iam_role_policy.kafka_producer) + length(aws_iam_role_policy.kafka_compactor) + length(aws_iam_role_policy.csv) == 0
    error_message = "A role may something that was not asked for."
  }
}

run "msk_lets_each_do_its_part_on_its_topics" {
  command = plan

  variables {
    msk = {
      cluster_arn = "arn:aws:kafka:eu-central-1:123456789012:cluster/lakefeed/id-1"
      topics      = ["prices"]
    }
  }

  assert {
    condition = {
      for each in jsondecode(aws_iam_role_policy.kafka_consumer["cluster"].policy).Statement : each.Sid => { actions = flatten([each.Action]), on = each.Resource }
      } == {
      Connect    = { actions = ["kafka-cluster:Connect"], on = "arn:aws:kafka:eu-central-1:123456789012:cluster/lakefeed/id-1" }
      ReadTopics = { actions = ["kafka-cluster:ReadData", "kafka-cluster:DescribeTopic"], on = "arn:aws:kafka:eu-central-1:123456789012:topic/lakefeed/id-1/prices" }
      Group      = { actions = ["kafka-cluster:DescribeGroup", "kafka-cluster:AlterGroup"], on = "arn:aws:kafka:eu-central-1:123456789012:group/lakefeed/id-1/lakefeed-consumer" }
    }
    error_message = "The consumer's rights are others: ${aws_iam_role_policy.kafka_consumer["cluster"].policy}"
  }

  assert {
    condition = alltrue([
      for each in jsondecode(aws_iam_role_policy.kafka_producer["cluster"].policy).Statement :
      !strcontains(jsonencode(each.Resource), "*") && !strcontains(jsonencode(each.Resource), ":group/")
    ])
    error_message = "The producer may more than write its topics."
  }
}

run "services_of_iceberg_tables_have_a_role_if_they_have_a_policy" {
  command = plan

  variables {
    policy_arns = {
      consumer  = "arn:aws:iam::123456789012:policy/lakefeed-consumer"
      analytics = "arn:aws:iam::123456789012:policy/lakefeed-analytics"
      compactor = "arn:aws:iam::123456789012:policy/lakefeed-compactor"
      maintain  = "arn:aws:iam::123456789012:policy/lakefeed-maintain"
    }
    msk = { cluster_arn = "arn:aws:kafka:eu-central-1:123456789012:cluster/lakefeed/id-1" }
  }

  assert {
    condition     = toset(keys(aws_iam_role.this)) == toset(["consumer", "analytics", "producer", "compactor", "maintain"])
    error_message = "There is not one role for each service."
  }

  assert {
    condition = {
      for each in jsondecode(aws_iam_role_policy.kafka_compactor["cluster"].policy).Statement : each.Sid => flatten([each.Action])
    } == { Connect = ["kafka-cluster:Connect"], Offsets = ["kafka-cluster:DescribeTopic", "kafka-cluster:DescribeGroup"] }
    error_message = "The compactor's rights are others: ${aws_iam_role_policy.kafka_compactor["cluster"].policy}"
  }
}

run "the_producer_reads_the_folders_given" {
  command = plan

  variables {
    csv_locations = ["s3://uploads/csv/"]
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.csv[0].policy).Statement[0].Resource == "arn:aws:s3:::uploads/csv/*"
    error_message = "The producer may read something else."
  }
}

run "a_wildcard_topic_is_refused" {
  command = plan

  variables {
    msk = {
      cluster_arn = "arn:aws:kafka:eu-central-1:123456789012:cluster/lakefeed/id-1"
      topics      = ["*"]
    }
  }

  expect_failures = [var.msk]
}

run "a_folder_with_a_wildcard_is_refused" {
  command = plan

  variables {
    csv_locations = ["s3://uploads/*/"]
  }

  expect_failures = [var.csv_locations]
}

run "an_address_for_a_provider_is_refused" {
  command = plan

  variables {
    oidc_provider_arn = "https://oidc.eks.eu-central-1.amazonaws.com/id/ABCDEF"
  }

  expect_failures = [var.oidc_provider_arn]
}

run "a_service_without_its_policy_is_refused" {
  command = plan

  variables {
    policy_arns = { consumer = "arn:aws:iam::123456789012:policy/lakefeed-consumer" }
  }

  expect_failures = [var.policy_arns]
}

run "an_unknown_service_is_refused" {
  command = plan

  variables {
    policy_arns = {
      consumer  = "arn:aws:iam::123456789012:policy/lakefeed-consumer"
      analytics = "arn:aws:iam::123456789012:policy/lakefeed-analytics"
      compacter = "arn:aws:iam::123456789012:policy/lakefeed-compactor"
    }
  }

  expect_failures = [var.policy_arns]
}
