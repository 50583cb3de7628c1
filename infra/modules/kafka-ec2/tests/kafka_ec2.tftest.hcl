# What a plan promises, and what is refused. AWS is not asked: its answers are made up.

mock_provider "aws" {
  mock_data "aws_subnet" {
    defaults = {
      vpc_id            = "vpc-0123456789abcdef0"
      availability_zone = "us-east-1a"
    }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  subnet_id = "subnet-0123456789abcdef0"
  ami_id    = "ami-0123456789abcdef0"
}

run "closed_by_default" {
  command = plan

  assert {
    condition = alltrue([
      length(aws_vpc_security_group_ingress_rule.kafka) == 0,
      length(aws_vpc_security_group_ingress_rule.kafka_from_group) == 0,
      length(aws_vpc_security_group_ingress_rule.ssh) == 0,
    ])
    error_message = "Connections are allowed that are not in the variables."
  }

  assert {
    condition     = one(aws_instance.this.metadata_options).http_tokens == "required"
    error_message = "The metadata can be read without a token."
  }

  assert {
    condition     = aws_ebs_volume.data.encrypted && one(aws_instance.this.root_block_device).encrypted
    error_message = "A volume is not encrypted."
  }

  assert {
    condition     = aws_ebs_volume.data.final_snapshot
    error_message = "The events would be gone with the volume."
  }

  assert {
    condition     = aws_ssm_parameter.this["password"].type == "SecureString"
    error_message = "The password is not encrypted."
  }
}

run "open_to_whom_it_is_said" {
  command = plan

  variables {
    allowed_cidrs              = ["203.0.113.7/32", "2001:db8::/64"]
    allowed_security_group_ids = ["sg-0123456789abcdef0"]
    allowed_ssh_cidrs          = ["203.0.113.7/32"]
    key_name                   = "mine"
  }

  assert {
    condition = alltrue([
      aws_vpc_security_group_ingress_rule.kafka["203.0.113.7/32"].cidr_ipv4 == "203.0.113.7/32",
      aws_vpc_security_group_ingress_rule.kafka["2001:db8::/64"].cidr_ipv6 == "2001:db8::/64",
      aws_vpc_security_group_ingress_rule.kafka_from_group[0].from_port == 9092,
      aws_vpc_security_group_ingress_rule.ssh["203.0.113.7/32"].from_port == 22,
    ])
    error_message = "The rules are not those that were asked for."
  }
}

run "the_whole_internet_is_refused" {
  command = plan

  variables {
    allowed_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.allowed_cidrs]
}

run "the_whole_internet_is_refused_in_ipv6" {
  command = plan

  variables {
    allowed_cidrs = ["203.0.113.7/32", "::/0"]
  }

  expect_failures = [var.allowed_cidrs]
}

run "half_of_the_internet_is_refused" {
  command = plan

  variables {
    allowed_cidrs = ["0.0.0.0/1", "128.0.0.0/1"]
  }

  expect_failures = [var.allowed_cidrs]
}

run "ssh_for_the_whole_internet_is_refused" {
  command = plan

  variables {
    allowed_ssh_cidrs = ["0.0.0.0/0"]
    key_name          = "mine"
  }

  expect_failures = [var.allowed_ssh_cidrs]
}

run "ssh_without_a_key_is_refused" {
  command = plan

  variables {
    allowed_ssh_cidrs = ["203.0.113.7/32"]
  }

  expect_failures = [var.allowed_ssh_cidrs]
}

run "more_replicas_than_brokers_are_refused" {
  command = plan

  variables {
    topic_replicas = 3
  }

  expect_failures = [var.topic_replicas]
}

run "too_little_memory_is_refused" {
  command = plan

  variables {
    instance_type = "t3.micro"
  }

  expect_failures = [var.instance_type]
}

run "an_archive_without_a_hash_is_refused" {
  command = plan

  variables {
    kafka_archive = { url = "https://example.com/kafka.tgz", sha256 = "" }
  }

  expect_failures = [var.kafka_archive]
}

run "reserved_parameters_are_refused" {
  command = plan

  variables {
    parameter_prefix = "/aws/kafka"
  }

  expect_failures = [var.parameter_prefix]
}

run "debians_own_image_for_the_processor" {
  command = plan

  variables {
    ami_id        = null
    instance_type = "t4g.small"
  }

  assert {
    condition     = one(data.aws_ami.debian[0].filter).values == toset(["debian-13-arm64-*"]) && data.aws_ami.debian[0].owners == tolist(["136693071363"])
    error_message = "The image is not Debian's own for this processor."
  }
}
