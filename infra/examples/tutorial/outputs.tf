output "bootstrap_servers" {
  description = "Address of the broker: LAKEFEED_KAFKA_BOOTSTRAP_SERVERS."
  value       = module.kafka.bootstrap_servers
}

output "wait_command" {
  description = "Shell lines that wait until the broker serves. For `eval`."
  value       = module.kafka.wait_command
}

output "publish_command" {
  description = "The command that publishes the sample from your computer, in the project's folder. For `eval`."
  value       = module.kafka.publish_command
}

output "settings_command" {
  description = "Shell lines that export all settings of consumer and analytics, those of the broker too. For `eval`."
  value = join("\n", [
    module.kafka.settings_command,
    join("\n", [for name, value in module.lake.settings : "export ${name}='${value}'"]),
  ])
}

output "settings" {
  description = "Environment variables with which consumer and analytics find the lake."
  value       = module.lake.settings
}

output "aws_config" {
  description = "Profiles for ~/.aws/config, with which consumer and analytics run on your computer, each with no more rights than its own."
  value = join("\n", [
    for service, arn in module.lake.role_arns : <<-PROFILE
      [profile ${var.name}-${service}]
      role_arn = ${arn}
      source_profile = default
      region = ${data.aws_region.current.name}
    PROFILE
  ])
}

output "instance_id" {
  description = "Id of the instance, to stop and start it, and to read its console."
  value       = module.kafka.instance_id
}

output "connect_command" {
  description = "Opens a shell on the instance, without SSH."
  value       = module.kafka.connect_command
}
