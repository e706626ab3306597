package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"serin.dev/serin/alerting/alert"
	"serin.dev/serin/analysis"
	"serin.dev/serin/internal/tenant"
)

// Alerts is the book of incidents and silences. What changes it is kept when the
// method returns.
type Alerts interface {
	// Incidents returns a tenant's open incidents, and those that ended just now.
	Incidents(tenant.ID) []alert.View
	// Silences returns a tenant's silences, those that ended among them.
	Silences(tenant.ID) []alert.Silence
	// Silence makes a silence. The error is [alert.ErrInvalid], or the disk's.
	Silence(context.Context, tenant.ID, alert.Silence) (alert.Silence, error)
	// Unsilence ends a silence; ok is false where there is none of that id that has
	// not ended.
	Unsilence(ctx context.Context, id tenant.ID, silence, who string) (s alert.Silence, ok bool, err error)
}

func (a *API) alerts(w http.ResponseWriter, _ *http.Request, _ *analysis.Engine, ac tenant.Access) error {
	return write(w, http.StatusOK, map[string]any{"alerts": a.o.Alerts.Incidents(ac.Tenant)})
}

func (a *API) silences(w http.ResponseWriter, _ *http.Request, _ *analysis.Engine, ac tenant.Access) error {
	return write(w, http.StatusOK, map[string]any{"silences": a.o.Alerts.Silences(ac.Tenant)})
}

func (a *API) silence(w http.ResponseWriter, r *http.Request, _ *analysis.Engine, ac tenant.Access) error {
	var body struct {
		Matchers []alert.Matcher `json:"matchers"`
		Start    time.Time       `json:"start"` // absent: now
		End      time.Time       `json:"end"`   // or
		For      string          `json:"for"`   // from the start, such as 2h
		Why      string          `json:"why"`
	}
	if err := read(w, r, &body); err != nil {
		return err
	}
	s := alert.Silence{Matchers: body.Matchers, Start: body.Start, End: body.End, Who: ac.Token, Why: body.Why}
	if (body.For == "") == body.End.IsZero() {
		return &badRequest{"end, for: want one of the two"}
	}
	if body.For != "" {
		length, err := time.ParseDuration(body.For)
		if err != nil || length <= 0 {
			return &badRequest{fmt.Sprintf("for: %q: want a length of time, such as 2h", body.For)}
		}
		if s.Start.IsZero() {
			s.Start = a.o.Now()
		}
		s.End = s.Start.Add(length)
	}
	made, err := a.o.Alerts.Silence(r.Context(), ac.Tenant, s)
	if err != nil {
		return err
	}
	return write(w, http.StatusCreated, made)
}

func (a *API) unsilence(w http.ResponseWriter, r *http.Request, _ *analysis.Engine, ac tenant.Access) error {
	s, ok, err := a.o.Alerts.Unsilence(r.Context(), ac.Tenant, r.PathValue("id"), ac.Token)
	if err != nil {
		return err
	}
	if !ok {
		fail(w, http.StatusNotFound, "not_found", fmt.Sprintf("silence %q: no such silence, or it has ended", r.PathValue("id")))
		return nil
	}
	return write(w, http.StatusOK, s)
}
