output "application_id" {
  description = "Id of the EMR Serverless application, for `aws emr-serverless start-job-run`."
  value       = aws_emrserverless_application.this.id
}

output "job_role_arn" {
  description = "ARN of the role of its jobs."
  value       = aws_iam_role.job.arn
}

output "security_group_id" {
  description = "Security group of its jobs, for client_security_group_ids of examples/production."
  value       = aws_security_group.jobs.id
}
