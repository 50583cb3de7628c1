# The shell commands of the outputs, for users with the AWS CLI.

locals {
  get = {
    for key, name in local.parameters :
    key => "aws ssm get-parameter --region ${local.region} --name ${name} --with-decryption --query Parameter.Value --output text"
  }
  ca_file = "${var.name}-ca.pem"

  # Joined with &&, to stop if a parameter cannot be read.
  settings_command = join(" && \\\n", [
    "${local.get.ca_certificate} > ${local.ca_file}",
    "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS=\"$(${local.get.bootstrap_servers})\"",
    "LAKEFEED_KAFKA_SASL_PASSWORD=\"$(${local.get.password})\"",
    join(" ", [
      "export LAKEFEED_KAFKA_BOOTSTRAP_SERVERS LAKEFEED_KAFKA_SASL_PASSWORD",
      "LAKEFEED_KAFKA_SECURITY_PROTOCOL=SASL_SSL LAKEFEED_KAFKA_SASL_MECHANISM=SCRAM-SHA-512",
      "LAKEFEED_KAFKA_SASL_USERNAME=${var.username} LAKEFEED_KAFKA_SSL_CA_FILE=\"$PWD/${local.ca_file}\"",
      "LAKEFEED_TOPIC=${var.topic}",
    ]),
  ])
}
