# One instance with ZooKeeper and Kafka, with its data on a separate volume.

locals {
  port   = 9092
  region = data.aws_region.current.name
  tags   = merge({ Name = var.name }, var.tags)

  # The value in Parameter Store until the instance has written the real one.
  unset  = "unset"
  prefix = coalesce(var.parameter_prefix, "/${var.name}")
  parameters = {
    bootstrap_servers = "${local.prefix}/bootstrap-servers"
    ca_certificate    = "${local.prefix}/ca-certificate"
    password          = "${local.prefix}/password"
  }
  parameter_types = {
    bootstrap_servers = "String"
    ca_certificate    = "String"
    password          = "SecureString"
  }

  # Graviton types have a g after the generation: t4g, m7gd.
  architecture = can(regex("^[a-z]+[0-9]+g", var.instance_type)) ? "arm64" : "amd64"

  address = coalesce(aws_instance.this.public_dns, aws_instance.this.public_ip, aws_instance.this.private_ip)
}

data "aws_region" "current" {}

data "aws_subnet" "this" {
  id = var.subnet_id
}

data "aws_ami" "debian" {
  count = var.ami_id == null ? 1 : 0

  # Debian's own account.
  owners      = ["136693071363"]
  most_recent = true

  filter {
    name   = "name"
    values = ["debian-13-${local.architecture}-*"]
  }
}

resource "aws_instance" "this" {
  ami                         = var.ami_id == null ? data.aws_ami.debian[0].id : var.ami_id
  instance_type               = var.instance_type
  subnet_id                   = data.aws_subnet.this.id
  vpc_security_group_ids      = [aws_security_group.this.id]
  associate_public_ip_address = var.public_address
  iam_instance_profile        = aws_iam_instance_profile.this.name
  key_name                    = var.key_name
  user_data_base64            = base64gzip(local.user_data)
  user_data_replace_on_change = true
  tags                        = local.tags

  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
    # Not reachable through a container or a proxy.
    http_put_response_hop_limit = 1
  }

  root_block_device {
    encrypted   = true
    volume_type = "gp3"
    volume_size = 10
    tags        = local.tags
  }

  # Required during the first boot.
  depends_on = [aws_iam_role_policy.this, aws_ssm_parameter.this, aws_vpc_security_group_egress_rule.web]

  lifecycle {
    # A newer image is used when the instance is replaced for another reason, or with `-replace`.
    ignore_changes = [ami]
  }
}

resource "aws_ebs_volume" "data" {
  availability_zone = data.aws_subnet.this.availability_zone
  encrypted         = true
  type              = "gp3"
  size              = var.data_volume_gib
  final_snapshot    = var.final_snapshot
  tags              = merge(local.tags, { Name = "${var.name}-data" })
}

resource "aws_volume_attachment" "data" {
  device_name = "/dev/${local.device_name}"
  volume_id   = aws_ebs_volume.data.id
  instance_id = aws_instance.this.id
  # Kafka closes its logs before the volume is detached.
  stop_instance_before_detaching = true
}
