// promrules evaluates PromQL as Prometheus does, over series that are given. It
// reads JSON from standard input and prints JSON: for each query, the labels of
// the series in its result.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/tsdb"
)

type series struct {
	Labels map[string]string `json:"labels"`
	// One sample a minute, from minute 0 on; null where nothing was scraped.
	Samples []*float64 `json:"samples"`
}

type query struct {
	Expr   string `json:"expr"`
	Minute int64  `json:"minute"`
}

type input struct {
	Series  []series `json:"series"`
	Queries []query  `json:"queries"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var in input
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "promrules-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	database, err := tsdb.Open(folder, nil, nil, tsdb.DefaultOptions(), nil)
	if err != nil {
		return err
	}
	defer database.Close()
	ctx := context.Background()
	start := time.Now().Add(-24 * time.Hour).Truncate(time.Minute)
	at := func(minute int64) time.Time { return start.Add(time.Duration(minute) * time.Minute) }
	appender := database.Appender(ctx)
	for _, each := range in.Series {
		for minute, sample := range each.Samples {
			if sample == nil {
				continue
			}
			when := at(int64(minute)).UnixMilli()
			if _, err := appender.Append(0, labels.FromMap(each.Labels), when, *sample); err != nil {
				return err
			}
		}
	}
	if err := appender.Commit(); err != nil {
		return err
	}
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 100_000, Timeout: 10 * time.Second})
	results := [][]map[string]string{}
	for _, each := range in.Queries {
		asked, err := engine.NewInstantQuery(ctx, database, nil, each.Expr, at(each.Minute))
		if err != nil {
			return fmt.Errorf("%s: %w", each.Expr, err)
		}
		vector, err := asked.Exec(ctx).Vector()
		if err != nil {
			return fmt.Errorf("%s: %w", each.Expr, err)
		}
		found := []map[string]string{}
		for _, sample := range vector {
			found = append(found, sample.Metric.Map())
		}
		results = append(results, found)
		asked.Close()
	}
	return json.NewEncoder(os.Stdout).Encode(results)
}
