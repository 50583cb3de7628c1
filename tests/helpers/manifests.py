"""A small rendering in which all is well, and the means to break it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import yaml

from k8s.check.manifests import Finding, Rendering, Resource

Bodies = dict[str, dict[str, Any]]

_GOOD = """
- apiVersion: v1
  kind: ServiceAccount
  metadata: &metadata
    name: consumer
    namespace: lakefeed
    labels: &labels { app.kubernetes.io/name: consumer, app.kubernetes.io/part-of: lakefeed }
- apiVersion: v1
  kind: ConfigMap
  metadata: { <<: *metadata, name: settings }
  data:
    LAKEFEED_KAFKA_BOOTSTRAP_SERVERS: broker:9092
    LAKEFEED_CONSUMER_GROUP: lakefeed-consumer
    LAKEFEED_TOPIC: prices
    LAKEFEED_TOPIC_PARTITIONS: "3"
    LAKEFEED_DRAIN_SECONDS: "25"
- apiVersion: apps/v1
  kind: Deployment
  metadata: *metadata
  spec:
    selector: { matchLabels: *labels }
    template:
      metadata: { labels: *labels }
      spec:
        serviceAccountName: consumer
        automountServiceAccountToken: false
        terminationGracePeriodSeconds: 40
        securityContext:
          runAsNonRoot: true
          runAsUser: 10001
          seccompProfile: { type: RuntimeDefault }
        containers:
          - name: consumer
            image: lakefeed-consumer:1.2.3
            envFrom: [{ configMapRef: { name: settings } }]
            env:
              - { name: LAKEFEED_KAFKA_SECURITY_PROTOCOL, value: SASL_SSL }
              - name: LAKEFEED_KAFKA_SASL_USERNAME
                valueFrom: { secretKeyRef: { name: lakefeed-kafka, key: username } }
              - name: LAKEFEED_KAFKA_SASL_PASSWORD
                valueFrom: { secretKeyRef: { name: lakefeed-kafka, key: password } }
            ports: [{ name: http, containerPort: 8002 }]
            securityContext:
              allowPrivilegeEscalation: false
              readOnlyRootFilesystem: true
              capabilities: { drop: [ALL] }
            resources:
              requests: { cpu: 100m, memory: 128Mi }
              limits: { cpu: "1", memory: 512Mi }
            livenessProbe: { httpGet: { path: /healthz, port: http } }
            readinessProbe: { httpGet: { path: /readyz, port: http } }
            volumeMounts: [{ name: tmp, mountPath: /tmp }]
        volumes: [{ name: tmp, emptyDir: { sizeLimit: 64Mi } }]
- apiVersion: v1
  kind: Service
  metadata: *metadata
  spec:
    clusterIP: None
    selector: *labels
    ports: [{ name: http, port: 8002, targetPort: http }]
- apiVersion: policy/v1
  kind: PodDisruptionBudget
  metadata: *metadata
  spec: { maxUnavailable: 1, selector: { matchLabels: *labels } }
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: *metadata
  spec:
    podSelector: { matchLabels: *labels }
    policyTypes: [Ingress, Egress]
    ingress:
      - from:
          - namespaceSelector: {}
            podSelector: { matchLabels: { app.kubernetes.io/name: prometheus } }
        ports: [{ protocol: TCP, port: http }]
    egress:
      - to: [{ podSelector: { matchLabels: *labels } }]
        ports: [{ protocol: TCP, port: 8002 }]
- apiVersion: keda.sh/v1alpha1
  kind: ScaledObject
  metadata: *metadata
  spec:
    scaleTargetRef: { kind: Deployment, name: consumer }
    minReplicaCount: 1
    maxReplicaCount: 3
    triggers:
      - type: kafka
        metadata:
          bootstrapServersFromEnv: LAKEFEED_KAFKA_BOOTSTRAP_SERVERS
          topicFromEnv: LAKEFEED_TOPIC
          tls: enable
          sasl: scram_sha512
        authenticationRef: { name: consumer }
- apiVersion: keda.sh/v1alpha1
  kind: TriggerAuthentication
  metadata: *metadata
  spec:
    secretTargetRef:
      - { parameter: username, name: lakefeed-kafka, key: username }
      - { parameter: password, name: lakefeed-kafka, key: password }
- apiVersion: monitoring.coreos.com/v1
  kind: PodMonitor
  metadata: *metadata
  spec:
    selector: { matchLabels: *labels }
    podMetricsEndpoints: [{ port: http }]
"""


def good() -> Bodies:
    """The bodies by kind; each can be changed without the others."""
    # An alias of YAML is the same object; here each is to be changed alone.
    return {body["kind"]: json.loads(json.dumps(body)) for body in yaml.safe_load(_GOOD)}


def container(bodies: Bodies) -> Any:
    """The consumer's container."""
    return bodies["Deployment"]["spec"]["template"]["spec"]["containers"][0]


def rendering(bodies: Bodies) -> Rendering:
    """An overlay of these."""
    return Rendering("overlays/x", tuple(Resource(body, "k8s/x.yaml") for body in bodies.values()))


def said(findings: Iterable[Finding]) -> list[str]:
    """What the check says of these, a line each."""
    return [f"{each.rendering}: {each.resource}: {each.message}" for each in findings]
