// promlint reads metrics in Prometheus' text format from standard input and
// says what breaks the conventions, as `promtool check metrics` does. It exits
// with 1 if there is anything to say.
package main

import (
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func main() {
	problems, err := promlint.New(os.Stdin).Lint()
	if err != nil {
		fmt.Fprintln(os.Stderr, "promlint:", err)
		os.Exit(1)
	}
	for _, problem := range problems {
		fmt.Println(problem.Metric+":", problem.Text)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
}
