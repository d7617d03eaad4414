{{- define "dynamo-ring.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "dynamo-ring.selector" -}}
app.kubernetes.io/component: operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/name: dynamo-ring-operator
{{- end -}}

{{- define "dynamo-ring.labels" -}}
{{ include "dynamo-ring.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: dynamo-ring
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "dynamo-ring.account" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "dynamo-ring.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "dynamo-ring.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "dynamo-ring.rules" -}}
- apiGroups: [""]
  resources: [configmaps, secrets]
  verbs: [create, get, patch]
- apiGroups: [""]
  resources: [persistentvolumeclaims, services]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
- apiGroups: [apps, networking.k8s.io, policy]
  resources: [networkpolicies, poddisruptionbudgets, statefulsets]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [cert-manager.io, monitoring.coreos.com]
  resources: [certificates, servicemonitors]
  verbs: [create, delete, get, patch]
- apiGroups: [dynamo-ring.dev]
  resources: [dynamobackups, dynamorepairs, dynamorestores]
  verbs: [create, delete, get, list, watch]
- apiGroups: [dynamo-ring.dev]
  resources:
    - dynamobackups/status
    - dynamoclusters/status
    - dynamorepairs/status
    - dynamorestores/status
  verbs: [patch]
- apiGroups: [dynamo-ring.dev]
  resources: [dynamoclusters]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshots]
  verbs: [create, list]
{{- end -}}
