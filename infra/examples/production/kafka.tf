data "aws_subnet" "brokers" {
  for_each = toset(var.broker_subnet_ids)

  id = each.value

  lifecycle {
    postcondition {
      condition     = self.vpc_id == data.aws_eks_cluster.this.vpc_config[0].vpc_id
      error_message = "broker_subnet_ids: ${self.id} is in the VPC ${self.vpc_id}, but the EKS cluster is in another one. Services and brokers must be in the same VPC."
    }
  }
}

resource "aws_security_group" "brokers" {
  name        = "${var.name}-brokers"
  description = "Lakefeed's brokers: IAM clients only"
  vpc_id      = data.aws_eks_cluster.this.vpc_config[0].vpc_id
  tags        = { Name = "${var.name}-brokers" }
}

resource "aws_vpc_security_group_ingress_rule" "cluster" {
  security_group_id            = aws_security_group.brokers.id
  description                  = "Kafka with IAM, from the pods of ${var.eks_cluster}"
  referenced_security_group_id = data.aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 9098
  to_port                      = 9098
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = toset(var.client_security_group_ids)

  security_group_id            = aws_security_group.brokers.id
  description                  = "Kafka with IAM"
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = 9098
  to_port                      = 9098
}

resource "aws_cloudwatch_log_group" "brokers" {
  name              = "/${var.name}/brokers"
  retention_in_days = 30
}

resource "aws_msk_configuration" "this" {
  name           = var.name
  description    = "Three replicas, two of which have an event before it counts as sent"
  kafka_versions = [var.kafka_version]

  server_properties = <<-PROPERTIES
    auto.create.topics.enable=false
    default.replication.factor=3
    min.insync.replicas=2
    unclean.leader.election.enable=false
    log.retention.hours=168
  PROPERTIES

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_msk_cluster" "this" {
  cluster_name           = var.name
  kafka_version          = var.kafka_version
  number_of_broker_nodes = length(var.broker_subnet_ids)

  broker_node_group_info {
    instance_type   = var.broker_type
    client_subnets  = var.broker_subnet_ids
    security_groups = [aws_security_group.brokers.id]

    storage_info {
      ebs_storage_info {
        volume_size = var.broker_volume_gib
      }
    }
  }

  client_authentication {
    unauthenticated = false

    sasl {
      iam = true
    }
  }

  encryption_info {
    encryption_in_transit {
      client_broker = "TLS"
      in_cluster    = true
    }
  }

  configuration_info {
    arn      = aws_msk_configuration.this.arn
    revision = aws_msk_configuration.this.latest_revision
  }

  logging_info {
    broker_logs {
      cloudwatch_logs {
        enabled   = true
        log_group = aws_cloudwatch_log_group.brokers.name
      }
    }
  }

  lifecycle {
    precondition {
      condition     = length(distinct([for subnet in data.aws_subnet.brokers : subnet.availability_zone])) == 3
      error_message = "broker_subnet_ids: the three subnets must be in three availability zones."
    }
  }
}
