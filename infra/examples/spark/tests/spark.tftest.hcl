# The subnet exists already. It is given here; everything else is planned by the real provider.

override_data {
  target = data.aws_subnet.jobs
  values = { vpc_id = "vpc-1" }
}

override_resource {
  target = aws_emrserverless_application.this
  values = { arn = "arn:aws:emr-serverless:us-east-1:123456789012:/applications/00abc" }
}

variables {
  compactor_policy_arn = "arn:aws:iam::123456789012:policy/lakefeed-compactor"
  code_location        = "s3://lake-code/spark/"
  subnet_ids           = ["subnet-a"]
  msk_cluster_arn      = "arn:aws:kafka:eu-central-1:123456789012:cluster/lakefeed/id-1"
  topics               = ["prices"]
}

run "a_job_may_what_the_compactor_may" {
  command = plan

  assert {
    condition     = aws_iam_role_policy_attachment.compactor.policy_arn == var.compactor_policy_arn
    error_message = "The job has another policy than the lake's compactor."
  }

  assert {
    condition = {
      for each in jsondecode(aws_iam_role_policy.job.policy).Statement : each.Sid => { actions = flatten([each.Action]), on = flatten([each.Resource]) }
      } == {
      ReadCode = { actions = ["s3:GetObject"], on = ["arn:aws:s3:::lake-code/spark/*"] }
      Connect  = { actions = ["kafka-cluster:Connect"], on = ["arn:aws:kafka:eu-central-1:123456789012:cluster/lakefeed/id-1"] }
      Offsets = { actions = ["kafka-cluster:DescribeTopic", "kafka-cluster:DescribeGroup"], on = [
        "arn:aws:kafka:eu-central-1:123456789012:topic/lakefeed/id-1/prices",
        "arn:aws:kafka:eu-central-1:123456789012:group/lakefeed/id-1/lakefeed-consumer",
      ] }
    }
    error_message = "The job's rights are others: ${aws_iam_role_policy.job.policy}"
  }
}

run "it_costs_nothing_when_idle_and_has_a_limit" {
  command = plan

  assert {
    condition     = aws_emrserverless_application.this.auto_stop_configuration[0].enabled && aws_emrserverless_application.this.auto_stop_configuration[0].idle_timeout_minutes == 5
    error_message = "The application is not stopped when it is idle."
  }

  assert {
    condition     = aws_emrserverless_application.this.maximum_capacity[0].cpu == "32 vCPU" && aws_emrserverless_application.this.maximum_capacity[0].memory == "128 GB" && length(aws_emrserverless_application.this.initial_capacity) == 0
    error_message = "Its costs have another limit, or it keeps workers ready."
  }
}

run "only_workers_reach_each_other" {
  command = plan

  assert {
    condition     = aws_vpc_security_group_ingress_rule.workers.cidr_ipv4 == null && aws_vpc_security_group_ingress_rule.workers.cidr_ipv6 == null
    error_message = "An address could reach the workers."
  }
}

run "a_wildcard_topic_is_refused" {
  command = plan

  variables {
    topics = ["*"]
  }

  expect_failures = [var.topics]
}

run "a_location_without_a_slash_is_refused" {
  command = plan

  variables {
    code_location = "s3://lake-code/spark"
  }

  expect_failures = [var.code_location]
}

run "a_release_with_another_spark_is_refused" {
  command = plan

  variables {
    release_label = "emr-6.15.0"
  }

  expect_failures = [var.release_label]
}
