package alert

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
)

// Title is one line on an item, without line breaks.
func (it *Item) Title() string {
	what := it.Subject()
	var title string
	switch it.Event {
	case Opened:
		title = fmt.Sprintf("[%s] %s: %s", strings.ToUpper(it.Severity), what, it.cause())
	case Changed:
		title = fmt.Sprintf("[%s, was %s] %s: %s", strings.ToUpper(it.Severity), it.Was, what, it.cause())
	default:
		title = fmt.Sprintf("[RESOLVED] %s: after %v", what, it.ResolvedAt.Sub(it.OpenedAt).Round(time.Second))
	}
	return strings.Join(strings.Fields(title), " ")
}

// Subject names what the item is about: an objective, with its cohort, or a
// condition, with its rollout.
func (it *Item) Subject() string {
	switch {
	case it.Condition != "":
		return strings.ReplaceAll(it.Condition, "_", " ") + ", " + it.Rollout
	case it.Cohort != "":
		return it.SLO + " of " + it.Cohort
	}
	return it.SLO
}

// cause says what fires, the first alert of it.
func (it *Item) cause() string {
	switch {
	case it.Condition != "":
		return it.Sentence
	case len(it.Alerts) == 0:
		return "an alert fires"
	}
	a := &it.Alerts[0]
	switch {
	case a.Form == formNoData:
		return "data are missing: " + a.Name
	case a.Short == "":
		return fmt.Sprintf("%d of %d failed within an hour (%s)", a.Bad, a.Total, a.Name)
	case math.IsNaN(float64(a.LongRate)):
		return a.Name
	}
	return fmt.Sprintf("%d of %d failed within %s, %.1f budgets (%s)", a.Bad, a.Total, strings.TrimSuffix(strings.TrimSuffix(a.Long, "0s"), "0m"), float64(a.LongRate), a.Name)
}

// Lines are the facts of an item, a line each.
func (it *Item) Lines() []string {
	var lines []string
	if it.Sentence != "" {
		lines = append(lines, strings.Join(strings.Fields(it.Sentence), " "))
	}
	if it.Condition != "" {
		return append(lines, fmt.Sprintf("rollout %s, release %s, app %s, tenant %s", it.Rollout, it.Release, it.App, it.Tenant))
	}
	for i := range it.Alerts {
		a := &it.Alerts[i]
		if a.Form == formNoData {
			lines = append(lines, fmt.Sprintf("%s (%s), since %s", a.Name, a.Severity, a.Since.Format(time.RFC3339)))
			continue
		}
		lines = append(lines, fmt.Sprintf("%s (%s): %d of %d; rate %s long, %s short, threshold %s; since %s", a.Name, a.Severity, a.Bad, a.Total,
			number(float64(a.LongRate)), number(float64(a.ShortRate)), number(a.Threshold), a.Since.Format(time.RFC3339)))
	}
	lines = append(lines, fmt.Sprintf("objective %s, error budget left %s", percent(it.Objective), percent(float64(it.Remaining))))
	lines = append(lines, fmt.Sprintf("service %s, app %s, tenant %s; data through %s, %s of it arrived", it.Service, it.App, it.Tenant, it.DataThrough.Format(time.RFC3339), percent(it.Completeness)))
	return lines
}

func number(f float64) string {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return "unknown"
	}
	return fmt.Sprintf("%.3g", f)
}

func percent(f float64) string {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return "unknown"
	}
	return fmt.Sprintf("%.4g %%", 100*f)
}

// Heartbeat is a message that says that objectives are evaluated.
type Heartbeat struct {
	ID   string
	Body []byte
}

// Watchdog returns the n-th message of a target since a time that says so: its
// absence, for longer than every, is the alarm.
func Watchdog(tenant, target string, n uint64, since, at time.Time, every time.Duration) (Heartbeat, error) {
	id := "watchdog_" + digest(tenant, target, n, since)
	body, err := json.Marshal(map[string]any{"type": "watchdog", "timestamp": at.UTC(),
		"data": map[string]any{"tenant": tenant, "target": target, "since": since.UTC(), "every_seconds": every.Seconds()}})
	if err != nil {
		return Heartbeat{}, fmt.Errorf("write message %s: %w", id, err)
	}
	return Heartbeat{id, body}, nil
}

// Body is a notification as a webhook of one's own gets it.
func Body(n *Notification) ([]byte, error) {
	data, err := json.Marshal(struct {
		Type      string        `json:"type"`
		Timestamp time.Time     `json:"timestamp"`
		Data      *Notification `json:"data"`
	}{"alert", n.At, n})
	if err != nil {
		return nil, fmt.Errorf("write message %s: %w", n.ID, err)
	}
	return data, nil
}
