{{- define "postern.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 characters at most: the longest name made from it must fit into 63. */}}
{{- define "postern.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "postern.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "postern.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What a Service or a budget selects: it must never change. Called with (dict "root" $ "component" NAME). */}}
{{- define "postern.selector" -}}
app.kubernetes.io/name: {{ include "postern.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "postern.labels" -}}
{{ include "postern.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "postern.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "postern.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "postern.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "postern.stateKeySecret" -}}
{{- default (printf "%s-proxy-state" (include "postern.fullname" .)) .Values.proxy.state.existingKeySecret -}}
{{- end -}}

{{- define "postern.storeKeySecret" -}}
{{- default (printf "%s-proxy-store" (include "postern.fullname" .)) .Values.proxy.store.existingKeySecret -}}
{{- end -}}

{{/* Environment and volume by which the store of the proxies is reached. */}}
{{- define "postern.storeEnv" -}}
{{- $store := .Values.proxy.store -}}
- name: POSTERN_STORE
  {{- if $store.existingUrlSecret }}
  valueFrom: {secretKeyRef: {name: {{ $store.existingUrlSecret }}, key: url}}
  {{- else }}
  value: {{ $store.url | quote }}
  {{- end }}
- name: POSTERN_STORE_KEY_FILE
  value: /var/run/postern/store/key{{ if $store.oldKey }},/var/run/postern/store/old-key{{ end }}
- name: POSTERN_STORE_TIMEOUT
  value: {{ $store.timeout | quote }}
{{- if $store.existingPasswordSecret }}
- name: POSTERN_STORE_PASSWORD_FILE
  value: /var/run/postern/store/password
{{- end }}
{{- if $store.existingCaSecret }}
- name: POSTERN_STORE_CA_FILE
  value: /var/run/postern/store/ca.crt
{{- end }}
{{- if ne (toString $store.replicas) "" }}
- name: POSTERN_STORE_REPLICAS
  value: {{ $store.replicas | quote }}
{{- end }}
{{- end -}}

{{- define "postern.storeVolume" -}}
{{- $store := .Values.proxy.store -}}
- name: store
  projected:
    defaultMode: 0440
    sources:
    - secret:
        name: {{ include "postern.storeKeySecret" . }}
        items:
        - {key: key, path: key}
        {{- if $store.oldKey }}
        - {key: old-key, path: old-key}
        {{- end }}
    {{- with $store.existingPasswordSecret }}
    - secret:
        name: {{ . }}
        items: [{key: password, path: password}]
    {{- end }}
    {{- with $store.existingCaSecret }}
    - secret:
        name: {{ . }}
        items: [{key: ca.crt, path: ca.crt}]
    {{- end }}
{{- end -}}

{{/* Not empty where the Admin API looks after tokens: the proxies share a store. */}}
{{- define "postern.storeOfAdminApi" -}}
{{- $store := .Values.proxy.store -}}
{{- if and .Values.adminApi.enabled (or $store.existingUrlSecret (hasPrefix "redis" $store.url)) -}}
true
{{- end -}}
{{- end -}}

{{/* "release" or "gateway"; an upgrade that reuses the values of an older chart has none. */}}
{{- define "postern.gatewayServiceNamespace" -}}
{{- default "release" .Values.controller.gatewayService.namespace -}}
{{- end -}}

{{/* A map as NAME=VALUE,NAME=VALUE. */}}
{{- define "postern.pairs" -}}
{{- $pairs := list -}}
{{- range $name, $value := . -}}
{{- if contains "," (toString $value) -}}
{{- fail (printf "controller.gatewayService.annotations: the value of %s must not contain a comma" $name) -}}
{{- end -}}
{{- $pairs = append $pairs (printf "%s=%s" $name $value) -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end -}}
