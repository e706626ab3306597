package api

import (
	"fmt"
	"net/http"

	"serin.dev/serin/analysis"
	"serin.dev/serin/internal/tenant"
)

func (a *API) deliveries(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	list, err := a.o.Deliveries.List(r.Context(), e, ac.Tenant)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, map[string]any{"deliveries": list})
}

func (a *API) replay(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	ok, err := a.o.Deliveries.Replay(r.Context(), e, ac.Tenant, r.PathValue("id"), ac.Token)
	if err != nil {
		return err
	}
	if !ok {
		fail(w, http.StatusNotFound, "not_found", fmt.Sprintf("message %q: no such message was told to a webhook or tool of now within a day", r.PathValue("id")))
		return nil
	}
	return write(w, http.StatusAccepted, map[string]string{"message": r.PathValue("id"), "outcome": analysis.Replay})
}
