{{/* The distribution's preset, as JSON; what values say goes before it. */}}
{{- define "cni-netops.node" -}}
{{- $preset := dict -}}
{{- with .Values.preset -}}
{{- $preset = get ($.Files.Get "files/presets.yaml" | fromYaml) . -}}
{{- end -}}
{{- $privileged := get $preset "privileged" | default false -}}
{{- if not (kindIs "invalid" .Values.privileged) -}}
{{- $privileged = .Values.privileged -}}
{{- end -}}
{{- dict "cniBinDir" (.Values.cniBinDir | default (get $preset "cniBinDir") | default "/opt/cni/bin") "privileged" $privileged "scc" (get $preset "scc") | toJson -}}
{{- end -}}

{{- define "cni-netops.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end -}}

{{- define "cni-netops.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "cni-netops.labels" -}}
{{ include "cni-netops.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
