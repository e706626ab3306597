// Package pagerduty tells incidents to PagerDuty by its Events API of version 2.
package pagerduty

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"serin.dev/serin/alerting/alert"
	"serin.dev/serin/alerting/webhook"
	"serin.dev/serin/analysis/verdict"
)

// DefaultURL is where events go; accounts in the EU have another one.
const DefaultURL = "https://events.pagerduty.com/v2/enqueue"

// The bounds of the API, in characters.
const (
	keyLength  = 32
	maxSummary = 1024
)

// Target is an integration of a PagerDuty service.
type Target struct {
	URL    string // empty: DefaultURL
	Key    string // routing key: 32 characters, secret
	Client webhook.Client
}

// Check reports what is wrong with the target. Its errors do not hold the key.
func (t *Target) Check() error {
	if len(t.Key) != keyLength {
		return fmt.Errorf("routing_key: %d characters: want the 32 of an integration of the Events API v2", len(t.Key))
	}
	if t.URL == "" {
		return nil
	}
	if u, err := url.Parse(t.URL); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil {
		return fmt.Errorf("url: %q: want https://HOST/v2/enqueue", t.URL)
	}
	return nil
}

type event struct {
	RoutingKey string   `json:"routing_key"`
	Action     string   `json:"event_action"` // trigger or resolve
	Dedup      string   `json:"dedup_key"`
	Payload    *payload `json:"payload,omitempty"` // of a trigger
	Client     string   `json:"client,omitempty"`
}

type payload struct {
	Summary   string      `json:"summary"`
	Source    string      `json:"source"`
	Severity  string      `json:"severity"` // critical, error, warning or info
	Timestamp time.Time   `json:"timestamp"`
	Component string      `json:"component,omitempty"`
	Group     string      `json:"group,omitempty"`
	Class     string      `json:"class,omitempty"`
	Details   *alert.Item `json:"custom_details,omitempty"`
}

// severity is PagerDuty's word for one of ours.
func severity(s string) string {
	switch s {
	case verdict.SeverityPage:
		return "critical"
	case verdict.SeverityTicket:
		return "warning"
	}
	return "info"
}

// Body returns the event of a notification, without the routing key. Of more than
// one item the last says what is so: all are of one incident, under one key.
func Body(n *alert.Notification) ([]byte, error) {
	if len(n.Items) == 0 {
		return nil, fmt.Errorf("write an event: message %s has no items", n.ID)
	}
	it := &n.Items[len(n.Items)-1]
	e := event{Action: "resolve", Dedup: "serin-" + it.Dedup}
	if it.Event != alert.Resolved {
		summary := it.Title()
		if r := []rune(summary); len(r) > maxSummary {
			summary = string(r[:maxSummary])
		}
		e.Action, e.Client = "trigger", "Serin"
		e.Payload = &payload{Summary: summary, Source: "serin/" + it.Tenant + "/" + cmp.Or(it.SLO, it.Rollout), Severity: severity(it.Severity), Timestamp: it.Since,
			Component: it.Service, Group: it.App, Class: cmp.Or(it.SLO, it.Condition), Details: it}
	}
	data, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("write an event: %w", err)
	}
	return data, nil
}

// Tell implements [webhook.Teller]. The key is put in here, so that it is in no
// outbox.
func (t *Target) Tell(ctx context.Context, m webhook.Message) (webhook.Answer, error) {
	var e map[string]json.RawMessage
	if err := json.Unmarshal(m.Body, &e); err != nil {
		return webhook.Answer{}, fmt.Errorf("%w: %w", webhook.ErrRejected, err)
	}
	key, err := json.Marshal(t.Key)
	if err != nil {
		return webhook.Answer{}, fmt.Errorf("%w: %w", webhook.ErrRejected, err)
	}
	e["routing_key"] = key
	body, err := json.Marshal(e)
	if err != nil {
		return webhook.Answer{}, fmt.Errorf("%w: %w", webhook.ErrRejected, err)
	}
	to := t.URL
	if to == "" {
		to = DefaultURL
	}
	a, err := webhook.Post(ctx, t.Client, to, http.Header{"Content-Type": {"application/json"}}, body)
	if err != nil {
		return a, err
	}
	if a.Status == http.StatusBadRequest || a.Status == http.StatusForbidden || a.Status == http.StatusNotFound {
		return a, fmt.Errorf("%w: %.200q", webhook.ErrRejected, strings.ReplaceAll(string(a.Body), t.Key, "REDACTED"))
	}
	return a, nil
}
