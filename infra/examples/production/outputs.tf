output "role_arns" {
  description = "ARNs of the roles by service account, for k8s/overlays/aws."
  value       = module.eks_access.role_arns
}

output "settings" {
  description = "Environment variables of the services, for the ConfigMap of k8s/overlays/aws."
  value = merge(module.lake.settings, {
    LAKEFEED_KAFKA_BOOTSTRAP_SERVERS = aws_msk_cluster.this.bootstrap_brokers_sasl_iam
    LAKEFEED_KAFKA_SECURITY_PROTOCOL = "SASL_SSL"
    LAKEFEED_KAFKA_SASL_MECHANISM    = "AWS_MSK_IAM"
    LAKEFEED_TOPIC_REPLICAS          = "3"
  })
}

output "msk_cluster_arn" {
  description = "ARN of the MSK cluster."
  value       = aws_msk_cluster.this.arn
}
