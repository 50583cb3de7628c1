# The cloud-init configuration. It contains no secrets: they are created on the instance.

locals {
  device_name = "sdf"
  broker      = "${path.module}/../../../broker"

  # sha256sum's own format: hash, file name.
  release = regex("^(?P<sha256>[0-9a-f]{64})  (?P<file>kafka_[0-9.]+-(?P<version>[0-9.]+)\\.tgz)", file("${local.broker}/kafka.sha256"))
  kafka_archive = coalesce(var.kafka_archive, {
    url    = "https://archive.apache.org/dist/kafka/${local.release.version}/${local.release.file}"
    sha256 = local.release.sha256
  })

  settings = {
    NAME                        = var.name
    AWS_REGION                  = local.region
    VOLUME_ID                   = aws_ebs_volume.data.id
    DEVICE_NAME                 = local.device_name
    PUBLIC_ADDRESS              = var.public_address ? "yes" : ""
    KAFKA_URL                   = local.kafka_archive.url
    KAFKA_SHA256                = local.kafka_archive.sha256
    KAFKA_HEAP_OPTS             = "-Xms${var.kafka_heap_mib}m -Xmx${var.kafka_heap_mib}m"
    KAFKA_USERNAME              = var.username
    TOPIC                       = var.topic
    TOPIC_PARTITIONS            = var.topic_partitions
    TOPIC_REPLICAS              = var.topic_replicas
    PARAMETER_BOOTSTRAP_SERVERS = local.parameters.bootstrap_servers
    PARAMETER_CA_CERTIFICATE    = local.parameters.ca_certificate
    PARAMETER_PASSWORD          = local.parameters.password
    UNSET                       = local.unset
  }

  files = {
    "/etc/lakefeed/kafka.env"                     = join("", [for name, value in local.settings : "${name}='${value}'\n"])
    "/etc/lakefeed/broker/server.properties"      = "${file("${local.broker}/server.properties")}${file("${path.module}/files/instance.properties")}"
    "/etc/lakefeed/broker/zookeeper.properties"   = "${file("${local.broker}/zookeeper.properties")}\n# Only for the broker on this machine.\nclientPortAddress=127.0.0.1\n"
    "/etc/lakefeed/broker/log4j.properties"       = file("${local.broker}/log4j.properties")
    "/etc/lakefeed/broker/tools-log4j.properties" = file("${local.broker}/tools-log4j.properties")
    "/etc/systemd/system/zookeeper.service"       = file("${path.module}/files/zookeeper.service")
    "/etc/systemd/system/kafka-data.service"      = file("${path.module}/files/kafka-data.service")
    "/etc/systemd/system/kafka.service"           = file("${path.module}/files/kafka.service")
    "/usr/local/sbin/lakefeed-kafka"              = file("${path.module}/files/lakefeed-kafka")
  }

  # JSON is YAML.
  user_data = "#cloud-config\n${jsonencode({
    write_files = [for path, content in local.files : {
      path        = path
      content     = content
      permissions = startswith(path, "/usr/local/sbin/") ? "0755" : "0644"
    }]
    runcmd = [["/usr/local/sbin/lakefeed-kafka", "install"]]
  })}\n"
}
