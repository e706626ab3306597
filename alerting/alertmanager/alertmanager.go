// Package alertmanager tells a Prometheus Alertmanager which incidents are open,
// over its API of version 2. Alertmanager is told what is so, again and again, and
// groups, repeats and inhibits by itself.
package alertmanager

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"serin.dev/serin/alerting/alert"
	"serin.dev/serin/analysis/verdict"
)

// Resend is how often it is to be told at least; Alertmanager forgets what it is
// not told again.
const Resend = 30 * time.Second

// Hold is for how long what was told stays true without being told again. It
// outlasts a restart of Serin; after it Alertmanager resolves by itself.
const Hold = 5 * time.Minute

// The names of alerts. All incidents have one name: which of an objective's alerts
// fire changes while it is open, and a label that changes is another alert.
const (
	BurnName     = "SerinErrorBudgetBurn"
	WatchdogName = "SerinWatchdog"
)

// conditionNames are those of conditions of rollouts.
var conditionNames = map[string]string{verdict.RollbackUnacknowledged: "SerinRollbackUnacknowledged", verdict.RollbackIneffective: "SerinRollbackIneffective"}

// maxAtOnce is how many alerts are sent in one request.
const maxAtOnce = 500

// Alert is one as the API has it. Its labels are its identity.
type Alert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// Target is one Alertmanager of a tenant.
type Target struct {
	Tenant string
	URL    string            // as a browser has it, without /api/v2
	Labels map[string]string // that are put on all alerts, such as cluster
	Source string            // URL of Serin, for links; may be empty
	Token  string            // bearer token; empty: none
	Client interface {
		Do(*http.Request) (*http.Response, error)
	}
}

// own are the labels that Serin sets itself.
var own = []string{"alertname", "tenant", "slo", "release", "cohort", "severity", "service", "app", "rollout"}

// Check reports what is wrong with the target.
func (t *Target) Check() error {
	u, err := url.Parse(t.URL)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return fmt.Errorf("url: %q: want https://HOST, or http:// within a network of your own", t.URL)
	case u.User != nil:
		return fmt.Errorf("url: of host %q: want no user and password in it: it is logged", u.Host)
	case u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("url: %q: want no query and no fragment", t.URL)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Labels)) {
		if slices.Contains(own, name) || !labelName(name) || t.Labels[name] == "" {
			return fmt.Errorf("labels: %q: %q: want a name of A-Z a-z 0-9 _ that is none of %s, with a value", name, t.Labels[name], strings.Join(own, ", "))
		}
	}
	return nil
}

func labelName(s string) bool {
	for i, c := range s {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// Alerts shows items as Alertmanager has them. Numbers, ids and times are
// annotations: as labels they would make another alert of each evaluation.
func (t *Target) Alerts(items []alert.Item, now time.Time) []Alert {
	var all []Alert
	for i := range items {
		it := &items[i]
		a := Alert{Labels: t.labels(cmp.Or(conditionNames[it.Condition], BurnName), it.Severity), StartsAt: it.Since, EndsAt: now.Add(Hold).UTC(), Annotations: map[string]string{
			"summary": it.Title(), "description": strings.Join(it.Lines(), "\n"), "incident": it.Dedup, "number": strconv.FormatUint(it.Number, 10),
			"opened_at": it.OpenedAt.Format(time.RFC3339), "data_through": it.DataThrough.Format(time.RFC3339),
		}}
		for name, v := range map[string]string{"slo": it.SLO, "cohort": it.Cohort, "service": it.Service, "app": it.App, "release": it.Release, "rollout": it.Rollout} {
			if v != "" {
				a.Labels[name] = v
			}
		}
		var names []string
		for _, of := range it.Alerts {
			names = append(names, of.Name)
		}
		a.Annotations["alerts"] = strings.Join(names, ", ")
		if it.Event == alert.Resolved {
			a.EndsAt = it.ResolvedAt
		}
		if t.Source != "" {
			a.GeneratorURL = t.Source + "/v1/alerts"
		}
		all = append(all, a)
	}
	return all
}

// Watchdog is the alert that always fires: whoever hears it no more knows that
// Serin evaluates nothing, or that its alerts do not arrive.
func (t *Target) Watchdog(since, now time.Time) Alert {
	return Alert{Labels: t.labels(WatchdogName, "none"), StartsAt: since.UTC(), EndsAt: now.Add(Hold).UTC(),
		Annotations: map[string]string{"summary": "Serin evaluates its objectives, and this alert says so. Its absence is the alarm."}}
}

func (t *Target) labels(name, severity string) map[string]string {
	l := maps.Clone(t.Labels)
	if l == nil {
		l = map[string]string{}
	}
	l["alertname"], l["tenant"], l["severity"] = name, t.Tenant, severity
	return l
}

// ErrRejected says that Alertmanager does not take alerts as they are.
var ErrRejected = errors.New("alertmanager refuses the alerts")

// Send tells alerts. Ctx carries the deadline. The error is [ErrRejected] where a
// repetition is of no use; what is told in other requests is told all the same.
func (t *Target) Send(ctx context.Context, alerts []Alert) error {
	var faults []error
	for part := range slices.Chunk(alerts, maxAtOnce) {
		faults = append(faults, t.post(ctx, part))
	}
	return errors.Join(faults...)
}

func (t *Target) post(ctx context.Context, alerts []Alert) error {
	body, err := json.Marshal(alerts)
	if err != nil {
		return fmt.Errorf("write alerts: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(t.URL, "/")+"/api/v2/alerts", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "serin/1")
	if t.Token != "" {
		req.Header.Set("Authorization", "Bearer "+t.Token)
	}
	res, err := t.Client.Do(req)
	if err != nil {
		return fmt.Errorf("post alerts: %w", err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 1024)) // a help for the log; the status has said it all
	switch {
	case res.StatusCode/100 == 2:
		return nil
	case res.StatusCode == http.StatusBadRequest:
		return fmt.Errorf("post alerts: %w: %s %q", ErrRejected, res.Status, text)
	}
	return fmt.Errorf("post alerts: %s %q", res.Status, text)
}
