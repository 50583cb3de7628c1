# For production: Amazon MSK in three zones with IAM; the lake; and roles for the services, which run on an existing
# EKS cluster (k8s/overlays/aws).

data "aws_eks_cluster" "this" {
  name = var.eks_cluster
}

data "aws_iam_openid_connect_provider" "this" {
  url = data.aws_eks_cluster.this.identity[0].oidc[0].issuer
}

module "lake" {
  source = "../../modules/lake"

  name          = var.name
  bucket        = var.bucket
  topics        = var.topics
  layout        = var.layout
  budget_usd    = var.budget_usd
  budget_emails = var.budget_emails
}

module "eks_access" {
  source = "../../modules/eks-access"

  name              = var.name
  oidc_provider_arn = data.aws_iam_openid_connect_provider.this.arn
  namespace         = var.namespace
  policy_arns       = module.lake.policy_arns
  msk               = { cluster_arn = aws_msk_cluster.this.arn, topics = var.topics }
  csv_locations     = var.csv_locations
}
