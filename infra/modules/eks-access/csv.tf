data "aws_partition" "current" {}

data "aws_iam_policy_document" "csv" {
  count = length(var.csv_locations) > 0 ? 1 : 0

  statement {
    sid     = "ReadCsv"
    actions = ["s3:GetObject"]
    resources = [
      for location in var.csv_locations : "arn:${data.aws_partition.current.partition}:s3:::${trimprefix(location, "s3://")}*"
    ]
  }
}

resource "aws_iam_role_policy" "csv" {
  count = length(var.csv_locations) > 0 ? 1 : 0

  name   = "csv"
  role   = aws_iam_role.this["producer"].id
  policy = data.aws_iam_policy_document.csv[0].json
}
