# The EKS cluster and the subnets exist already in production. They are given here, since a local AWS has no
# cluster with a VPC; everything else is planned by the real provider.

override_data {
  target = data.aws_eks_cluster.this
  values = {
    identity   = [{ oidc = [{ issuer = "https://oidc.eks.us-east-1.amazonaws.com/id/ABCDEF" }] }]
    vpc_config = [{ vpc_id = "vpc-1", cluster_security_group_id = "sg-eks" }]
  }
}

override_data {
  target = data.aws_iam_openid_connect_provider.this
  values = { arn = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.us-east-1.amazonaws.com/id/ABCDEF" }
}

override_data {
  target = data.aws_subnet.brokers["subnet-a"]
  values = { vpc_id = "vpc-1", availability_zone = "us-east-1a" }
}

override_data {
  target = data.aws_subnet.brokers["subnet-b"]
  values = { vpc_id = "vpc-1", availability_zone = "us-east-1b" }
}

override_data {
  target = data.aws_subnet.brokers["subnet-c"]
  values = { vpc_id = "vpc-1", availability_zone = "us-east-1c" }
}

variables {
  bucket            = "lake-production"
  eks_cluster       = "mine"
  broker_subnet_ids = ["subnet-a", "subnet-b", "subnet-c"]
}

run "brokers_are_entered_by_iam_over_tls_only" {
  command = plan

  assert {
    condition     = aws_msk_cluster.this.client_authentication[0].sasl[0].iam && !aws_msk_cluster.this.client_authentication[0].unauthenticated
    error_message = "Clients could connect without IAM."
  }

  assert {
    condition     = aws_msk_cluster.this.encryption_info[0].encryption_in_transit[0].client_broker == "TLS"
    error_message = "Events could travel in the clear."
  }

  assert {
    condition     = aws_msk_cluster.this.number_of_broker_nodes == 3
    error_message = "There is not one broker a zone."
  }

  assert {
    condition     = strcontains(aws_msk_configuration.this.server_properties, "min.insync.replicas=2")
    error_message = "An event could count as sent with one copy."
  }
}

run "only_the_cluster_reaches_the_brokers" {
  command = plan

  assert {
    condition     = aws_vpc_security_group_ingress_rule.cluster.referenced_security_group_id == "sg-eks" && aws_vpc_security_group_ingress_rule.cluster.cidr_ipv4 == null
    error_message = "An address could reach the brokers."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.cluster.from_port == 9098 && aws_vpc_security_group_ingress_rule.cluster.to_port == 9098
    error_message = "Another port than that of IAM is open."
  }

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.clients) == 0
    error_message = "Additional clients are allowed that are not in the variables."
  }
}

run "two_zones_are_refused" {
  command = plan

  variables {
    broker_subnet_ids = ["subnet-a", "subnet-b"]
  }

  expect_failures = [var.broker_subnet_ids]
}

run "two_subnets_of_one_zone_are_refused" {
  command = plan

  override_data {
    target = data.aws_subnet.brokers["subnet-c"]
    values = { vpc_id = "vpc-1", availability_zone = "us-east-1a" }
  }

  expect_failures = [aws_msk_cluster.this]
}

run "subnets_of_another_vpc_are_refused" {
  command = plan

  override_data {
    target = data.aws_subnet.brokers["subnet-c"]
    values = { vpc_id = "vpc-2", availability_zone = "us-east-1c" }
  }

  expect_failures = [data.aws_subnet.brokers]
}

run "kraft_is_refused" {
  command = plan

  variables {
    kafka_version = "3.9.x.kraft"
  }

  expect_failures = [var.kafka_version]
}
