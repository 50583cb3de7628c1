output "bootstrap_servers" {
  description = "Address of the broker: LAKEFEED_KAFKA_BOOTSTRAP_SERVERS."
  value       = module.kafka.bootstrap_servers
}

output "wait_command" {
  description = "Shell commands that wait until the broker is available. For `eval`."
  value       = module.kafka.wait_command
}

output "publish_command" {
  description = "Shell commands that publish the sample from your computer, in the root of the repository. For `eval`."
  value       = module.kafka.publish_command
}

output "settings_command" {
  description = "Shell commands that export all settings of consumer and analytics, including those of the broker. For `eval`."
  value = join("\n", [
    module.kafka.settings_command,
    join("\n", [for name, value in module.lake.settings : "export ${name}='${value}'"]),
  ])
}

output "settings" {
  description = "Environment variables of consumer and analytics."
  value       = module.lake.settings
}

output "aws_config" {
  description = "Profiles for ~/.aws/config, to run consumer and analytics on your computer with their own permissions only."
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
