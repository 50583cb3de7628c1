# IAM roles for the service accounts of k8s/overlays/aws: a pod gets credentials of its role with the token of its
# service account, and has no access keys.

locals {
  issuer   = split("oidc-provider/", var.oidc_provider_arn)[1]
  services = setunion(["producer"], keys(var.policy_arns))
  tags     = merge({ Project = "lakefeed" }, var.tags)
}

data "aws_iam_policy_document" "service_account" {
  for_each = local.services

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [var.oidc_provider_arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = ["system:serviceaccount:${var.namespace}:${each.key}"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "this" {
  for_each = local.services

  name               = "${var.name}-eks-${each.key}"
  description        = "Lakefeed's ${each.key} on EKS: service account ${var.namespace}/${each.key}"
  assume_role_policy = data.aws_iam_policy_document.service_account[each.key].json
  tags               = local.tags
}

resource "aws_iam_role_policy_attachment" "lake" {
  for_each = var.policy_arns

  role       = aws_iam_role.this[each.key].name
  policy_arn = each.value
}
