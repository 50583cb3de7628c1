output "bootstrap_servers" {
  description = "Address of the broker as of this apply. It changes after a stop and start: see parameter_names.bootstrap_servers."
  value       = "${local.address}:${local.port}"
}

output "settings_command" {
  description = "Shell commands that write the broker's certificate authority to a file and export all LAKEFEED_KAFKA_… variables. For `eval`."
  value       = local.settings_command
}

output "publish_command" {
  description = "Shell commands that publish the sample from your computer, in the root of the repository. For `eval`."
  value       = "${local.settings_command} && \\\n.venv/bin/lakefeed-producer publish data/prices.csv"
}

output "wait_command" {
  description = "Shell commands that wait until the broker is available, about four minutes after the first apply. For `eval`."
  value       = "until ${local.get.bootstrap_servers} | grep -v '^${local.unset}$'; do sleep 5; done"
}

output "connect_command" {
  description = "Opens a shell on the instance by Session Manager, without SSH and without an open port."
  value       = "aws ssm start-session --region ${local.region} --target ${aws_instance.this.id}"
}

output "instance_id" {
  description = "Id of the instance."
  value       = aws_instance.this.id
}

output "security_group_id" {
  description = "Id of the instance's security group."
  value       = aws_security_group.this.id
}

output "data_volume_id" {
  description = "Id of the volume with topics, ZooKeeper's state and the authority's key."
  value       = aws_ebs_volume.data.id
}

output "role_arn" {
  description = "ARN of the instance's role."
  value       = aws_iam_role.this.arn
}

output "parameter_names" {
  description = "Names in Parameter Store: bootstrap_servers, ca_certificate (PEM) and password (SecureString)."
  value       = local.parameters
}

output "username" {
  description = "The user of Kafka's clients."
  value       = var.username
}

output "topic" {
  description = "The topic to create."
  value       = var.topic
}
