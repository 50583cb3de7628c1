variable "name" {
  description = "Name of the instance, its volume, role and security group."
  type        = string
  default     = "lakefeed-kafka"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,38}[a-z0-9]$", var.name))
    error_message = "name is \"${var.name}\": use 3 to 40 lower case letters, digits and hyphens, beginning with a letter."
  }
}

variable "subnet_id" {
  description = "Subnet of the instance; one with a route to the internet. It determines VPC and availability zone."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^subnet-[0-9a-z]+$", var.subnet_id))
    error_message = "subnet_id is \"${var.subnet_id}\": give the id of a subnet, such as subnet-0123456789abcdef0."
  }
}

variable "public_address" {
  description = "Whether the instance has and advertises a public address. Without one, the subnet needs a NAT gateway."
  type        = bool
  default     = true
  nullable    = false
}

variable "allowed_cidrs" {
  description = "Networks that may connect to Kafka (port 9092), such as [\"203.0.113.7/32\"] for one computer. None by default."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.allowed_cidrs : can(cidrhost(cidr, 0))])
    error_message = "allowed_cidrs: each must be a network such as 203.0.113.7/32 or 2001:db8::/64."
  }

  validation {
    condition = alltrue([
      for cidr in var.allowed_cidrs : try(tonumber(split("/", cidr)[1]) >= (strcontains(cidr, ":") ? 16 : 8), true)
    ])
    error_message = "allowed_cidrs must not open Kafka to the whole internet: 0.0.0.0/0, ::/0 and all networks wider than /8 (IPv6: /16) are refused. Name your own address; `curl -s https://checkip.amazonaws.com` prints it."
  }
}

variable "allowed_security_group_ids" {
  description = "Security groups whose members, in the same VPC, may connect to Kafka, such as that of the nodes of a cluster."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.allowed_security_group_ids : can(regex("^sg-[0-9a-z]+$", id))])
    error_message = "allowed_security_group_ids: each must be the id of a security group, such as sg-0123456789abcdef0."
  }
}

variable "allowed_ssh_cidrs" {
  description = "Networks that may connect by SSH (port 22). None by default: Session Manager needs no open port. Requires key_name."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.allowed_ssh_cidrs : can(cidrhost(cidr, 0))])
    error_message = "allowed_ssh_cidrs: each must be a network such as 203.0.113.7/32 or 2001:db8::/64."
  }

  validation {
    condition = alltrue([
      for cidr in var.allowed_ssh_cidrs : try(tonumber(split("/", cidr)[1]) >= (strcontains(cidr, ":") ? 16 : 8), true)
    ])
    error_message = "allowed_ssh_cidrs must not open SSH to the whole internet: 0.0.0.0/0, ::/0 and all networks wider than /8 (IPv6: /16) are refused. Name your own address; `curl -s https://checkip.amazonaws.com` prints it."
  }

  validation {
    condition     = length(var.allowed_ssh_cidrs) == 0 || var.key_name != null
    error_message = "allowed_ssh_cidrs opens a port that cannot be used without key_name. Set a key pair, or connect with Session Manager and leave it empty."
  }
}

variable "key_name" {
  description = "EC2 key pair for SSH. None by default: connect with Session Manager."
  type        = string
  default     = null

  validation {
    condition     = var.key_name == null || try(length(trimspace(var.key_name)) > 0, false)
    error_message = "key_name must be the name of an EC2 key pair, or null for none."
  }
}

variable "instance_type" {
  description = "EC2 instance type, x86-64 or Graviton. Kafka and ZooKeeper need 2 GiB of memory."
  type        = string
  default     = "t3.small"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9-]+$", var.instance_type))
    error_message = "instance_type is \"${var.instance_type}\": give an EC2 instance type such as t3.small."
  }

  validation {
    condition     = !can(regex("\\.(nano|micro)$", var.instance_type))
    error_message = "instance_type is \"${var.instance_type}\", which has less than the 2 GiB of memory that Kafka and ZooKeeper need. Use t3.small or larger."
  }
}

variable "ami_id" {
  description = "Image of the instance; must be Debian 13. By default Debian's newest."
  type        = string
  default     = null

  validation {
    condition     = var.ami_id == null || can(regex("^ami-[0-9a-z]+$", var.ami_id))
    error_message = "ami_id must be the id of an image, such as ami-0123456789abcdef0, or null for Debian's newest."
  }
}

variable "data_volume_gib" {
  description = "Size of the data volume in GiB. Kafka keeps events for a week."
  type        = number
  default     = 20
  nullable    = false

  validation {
    condition     = var.data_volume_gib >= 1 && var.data_volume_gib <= 16384 && floor(var.data_volume_gib) == var.data_volume_gib
    error_message = "data_volume_gib is ${var.data_volume_gib}: must be a whole number from 1 to 16384."
  }
}

variable "final_snapshot" {
  description = "Whether a snapshot of the data volume is kept when the volume is destroyed."
  type        = bool
  default     = true
  nullable    = false
}

variable "kafka_heap_mib" {
  description = "Java heap of Kafka in MiB; about a quarter of the memory, the rest serves as page cache."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = var.kafka_heap_mib >= 256 && var.kafka_heap_mib <= 31744 && floor(var.kafka_heap_mib) == var.kafka_heap_mib
    error_message = "kafka_heap_mib is ${var.kafka_heap_mib}: must be a whole number from 256 to 31744."
  }
}

variable "kafka_archive" {
  description = "Where Kafka's release is downloaded from, and its SHA-256. By default Apache's archive, as broker/kafka.sha256 pins it."
  type = object({
    url    = string
    sha256 = string
  })
  default = null

  validation {
    condition     = var.kafka_archive == null || can(regex("^https?://\\S+\\.tgz$", var.kafka_archive.url))
    error_message = "kafka_archive.url must be the http or https address of a .tgz."
  }

  validation {
    condition     = var.kafka_archive == null || can(regex("^[0-9a-f]{64}$", var.kafka_archive.sha256))
    error_message = "kafka_archive.sha256 must be 64 hexadecimal digits in lower case, as sha256sum prints them."
  }
}

variable "username" {
  description = "The user of Kafka's clients; its password is created on the instance and stored in Parameter Store."
  type        = string
  default     = "lakefeed"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,64}$", var.username))
    error_message = "username is \"${var.username}\": use 1 to 64 letters, digits, hyphens and underscores."
  }
}

variable "topic" {
  description = "The topic to create."
  type        = string
  default     = "demo_testing"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-][A-Za-z0-9._-]{0,248}$", var.topic))
    error_message = "topic is \"${var.topic}\": use 1 to 249 letters, digits, dots, hyphens and underscores, not beginning with a dot."
  }
}

variable "topic_partitions" {
  description = "Partitions of the topic; they limit the number of working consumers."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.topic_partitions >= 1 && var.topic_partitions <= 1000 && floor(var.topic_partitions) == var.topic_partitions
    error_message = "topic_partitions is ${var.topic_partitions}: must be a whole number from 1 to 1000."
  }
}

variable "topic_replicas" {
  description = "Replicas of the topic. This module runs one broker, so there is one."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.topic_replicas == 1
    error_message = "topic_replicas is ${var.topic_replicas}, but there is only one broker. For more, use Amazon MSK: examples/production."
  }
}

variable "parameter_prefix" {
  description = "Prefix of address, certificate authority and password in Parameter Store. By default /<name>."
  type        = string
  default     = null

  validation {
    condition     = var.parameter_prefix == null || can(regex("^(/[A-Za-z0-9_.-]+)+$", var.parameter_prefix))
    error_message = "parameter_prefix must begin with a slash and not end with one, such as /lakefeed/kafka."
  }

  validation {
    condition     = var.parameter_prefix == null || !can(regex("(?i)^/(aws|ssm)", var.parameter_prefix))
    error_message = "parameter_prefix must not begin with /aws or /ssm: these are reserved by AWS."
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
