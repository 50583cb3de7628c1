output "role_arns" {
  description = "ARNs of the roles by service account, for the annotation `eks.amazonaws.com/role-arn` in k8s/overlays/aws."
  value       = { for service, role in aws_iam_role.this : service => role.arn }
}
