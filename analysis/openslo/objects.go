// Package openslo reads files of OpenSLO v1 (https://github.com/OpenSLO/OpenSLO)
// and makes of them the objectives that Serin evaluates.
//
// [Parse] decides what is a valid file, by the rules of the specification's Go
// SDK; [Compile] decides what of it can be evaluated, and refuses the rest with a
// reason. Both tell all faults at once.
package openslo

import (
	"fmt"
	"math"
	"strconv"

	"go.yaml.in/yaml/v3"

	"serin.dev/serin/analysis/yamlfile"
)

// The version that is read, and those that are known and are not.
const (
	Version      = "openslo/v1"
	versionAlpha = "openslo/v1alpha"
	versionNext  = "openslo.com/v2alpha"
)

// The kinds of objects.
const (
	KindService                 = "Service"
	KindDataSource              = "DataSource"
	KindSLI                     = "SLI"
	KindSLO                     = "SLO"
	KindAlertPolicy             = "AlertPolicy"
	KindAlertCondition          = "AlertCondition"
	KindAlertNotificationTarget = "AlertNotificationTarget"
)

// Metadata names an object.
type Metadata struct {
	Name        string            `json:"name"`
	DisplayName string            `json:"displayName"`
	Labels      Labels            `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// Labels are kept as they are given: each a text or a list of texts.
type Labels map[string]Label

// Label is the texts of one label.
type Label []string

// ReadNode reads a text, or a list of texts.
func (l *Label) ReadNode(r *yamlfile.Reader, n *yaml.Node, path string) {
	if n.Kind == yaml.ScalarNode {
		if n.Tag == "!!null" {
			return
		}
		var s string
		r.Value(n, &s, path)
		*l = Label{s}
		return
	}
	var all []string
	r.Value(n, &all, path)
	*l = all
}

// Raw is a part of a file whose structure the specification leaves open.
type Raw struct{ Node *yaml.Node }

// ReadNode keeps the node. Whatever it says, the specification's SDK reads it as
// JSON, which has no number without an end.
func (d *Raw) ReadNode(r *yamlfile.Reader, n *yaml.Node, path string) {
	d.Node = n
	finite(r, n, path)
}

// finite notes each number below a node that is none in JSON.
func finite(r *yamlfile.Reader, n *yaml.Node, path string) {
	var x float64
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!float" && n.Decode(&x) == nil && (math.IsInf(x, 0) || math.IsNaN(x)) {
		r.Fault(n, path, n.Value, "a finite number")
	}
	for i, c := range n.Content {
		switch {
		case n.Kind == yaml.SequenceNode:
			finite(r, c, fmt.Sprintf("%s[%d]", path, i))
		case n.Kind == yaml.MappingNode && i%2 == 1:
			finite(r, c, path+"."+n.Content[i-1].Value)
		}
	}
}

// Duration is a number of units: m(inutes), h(ours), d(ays), w(eeks), M(onths),
// Q(uarters), Y(ears).
type Duration struct {
	Value int
	Unit  string
}

// String returns the duration as files spell it.
func (d Duration) String() string { return strconv.Itoa(d.Value) + d.Unit }

const durationWant = "a whole number and a unit of m, h, d, w, M, Q, Y, such as 30d"

// ReadNode reads a duration; the unit is checked with the rules. The SDK reads it
// with fmt.Sscanf, and what that accepts is accepted.
func (d *Duration) ReadNode(r *yamlfile.Reader, n *yaml.Node, path string) {
	var s string
	before := len(r.Faults)
	if r.Value(n, &s, path); s == "" || len(r.Faults) > before {
		return
	}
	if k, err := fmt.Sscanf(s, "%d%s", &d.Value, &d.Unit); err != nil || k != 2 {
		*d = Duration{}
		r.Fault(n, path, yamlfile.Shown(n), durationWant)
		d.Unit = "?" // told already
	}
}

type service struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"`
	Metadata   *Metadata   `json:"metadata"`
	Spec       serviceSpec `json:"spec"`
}

type serviceSpec struct {
	Description string `json:"description"`
}

type dataSource struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   *Metadata      `json:"metadata"`
	Spec       dataSourceSpec `json:"spec"`
}

type dataSourceSpec struct {
	Description       string `json:"description"`
	Type              string `json:"type"`
	ConnectionDetails Raw    `json:"connectionDetails"`
}

type sli struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Metadata   *Metadata `json:"metadata"`
	Spec       sliSpec   `json:"spec"`
}

type sliSpec struct {
	Description     string       `json:"description"`
	ThresholdMetric *metric      `json:"thresholdMetric"`
	RatioMetric     *ratioMetric `json:"ratioMetric"`
}

type ratioMetric struct {
	Counter bool    `json:"counter"`
	Good    *metric `json:"good"`
	Bad     *metric `json:"bad"`
	Total   *metric `json:"total"`
	RawType string  `json:"rawType"`
	Raw     *metric `json:"raw"`
}

type metric struct {
	MetricSource *metricSource `json:"metricSource"`
}

type metricSource struct {
	MetricSourceRef string `json:"metricSourceRef"`
	Type            string `json:"type"`
	Spec            Raw    `json:"spec"`
}

type sloObject struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Metadata   *Metadata `json:"metadata"`
	Spec       *sloSpec  `json:"spec"`
}

type sloSpec struct {
	Description     string         `json:"description"`
	Service         string         `json:"service"`
	Indicator       *inlineSLI     `json:"indicator"`
	IndicatorRef    *string        `json:"indicatorRef"`
	BudgetingMethod string         `json:"budgetingMethod"`
	TimeWindow      []timeWindow   `json:"timeWindow"`
	Objectives      []objective    `json:"objectives"`
	AlertPolicies   []policyChoice `json:"alertPolicies"`
}

type inlineSLI struct {
	Metadata *Metadata `json:"metadata"`
	Spec     sliSpec   `json:"spec"`
}

type timeWindow struct {
	Duration  Duration  `json:"duration"`
	IsRolling bool      `json:"isRolling"`
	Calendar  *calendar `json:"calendar"`
}

type calendar struct {
	StartTime string `json:"startTime"`
	TimeZone  string `json:"timeZone"`
}

type objective struct {
	DisplayName     string     `json:"displayName"`
	Op              string     `json:"op"`
	Value           *float64   `json:"value"`
	Target          *float64   `json:"target"`
	TargetPercent   *float64   `json:"targetPercent"`
	TimeSliceTarget *float64   `json:"timeSliceTarget"`
	TimeSliceWindow *Duration  `json:"timeSliceWindow"`
	Indicator       *inlineSLI `json:"indicator"`
	IndicatorRef    *string    `json:"indicatorRef"`
	CompositeWeight *float64   `json:"compositeWeight"`
}

// policyChoice is a reference, or a whole alert policy.
type policyChoice struct {
	AlertPolicyRef *string          `json:"alertPolicyRef"`
	Kind           *string          `json:"kind"`
	Metadata       *Metadata        `json:"metadata"`
	Spec           *alertPolicySpec `json:"spec"`
}

type alertPolicy struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Metadata   *Metadata       `json:"metadata"`
	Spec       alertPolicySpec `json:"spec"`
}

type alertPolicySpec struct {
	Description         string            `json:"description"`
	AlertWhenNoData     bool              `json:"alertWhenNoData"`
	AlertWhenBreaching  bool              `json:"alertWhenBreaching"`
	AlertWhenResolved   bool              `json:"alertWhenResolved"`
	Conditions          []conditionChoice `json:"conditions"`
	NotificationTargets []targetChoice    `json:"notificationTargets"`
}

type conditionChoice struct {
	ConditionRef *string        `json:"conditionRef"`
	Kind         *string        `json:"kind"`
	Metadata     *Metadata      `json:"metadata"`
	Spec         *conditionSpec `json:"spec"`
}

type targetChoice struct {
	TargetRef *string     `json:"targetRef"`
	Kind      *string     `json:"kind"`
	Metadata  *Metadata   `json:"metadata"`
	Spec      *targetSpec `json:"spec"`
}

type alertCondition struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   *Metadata      `json:"metadata"`
	Spec       *conditionSpec `json:"spec"`
}

type conditionSpec struct {
	Severity    string     `json:"severity"`
	Condition   *condition `json:"condition"`
	Description string     `json:"description"`
}

type condition struct {
	Kind           string    `json:"kind"`
	Op             string    `json:"op"`
	Threshold      *float64  `json:"threshold"`
	LookbackWindow Duration  `json:"lookbackWindow"`
	AlertAfter     *Duration `json:"alertAfter"`
}

type alertTarget struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Metadata   *Metadata  `json:"metadata"`
	Spec       targetSpec `json:"spec"`
}

type targetSpec struct {
	Description string `json:"description"`
	Target      string `json:"target"`
}
