// kube-testbed is a Kubernetes control plane in one process, for tests on a
// machine without docker, kubelet or container images.
//
// Real, the code of the Kubernetes release pinned in go.mod:
//   - etcd, embedded, storing under --dir;
//   - kube-apiserver with its usual admission plugins, RBAC, ServiceAccounts
//     and the TokenRequest API;
//   - the deployment, replicaset, statefulset, horizontal-pod-autoscaler,
//     resourcequota, serviceaccount, namespace and garbage-collector
//     controllers.
//
// Ours, in agent.go: a scheduler and kubelet for one node that run nothing
// and only report.
//
// Started again on the same --dir it comes back with its data, keys and
// tokens, also after a SIGKILL. SIGINT and SIGTERM stop it cleanly.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/quota/v1/generic"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/pkg/controller"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/namespace"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/controller/resourcequota"
	"k8s.io/kubernetes/pkg/controller/serviceaccount"
	"k8s.io/kubernetes/pkg/controller/statefulset"
	quota "k8s.io/kubernetes/pkg/quota/v1/install"
)

func main() {
	flags := flag.NewFlagSet("kube-testbed", flag.ExitOnError)
	dir := flags.String("dir", "", "folder for data, keys and the admin kubeconfig (required)")
	listen := flags.String("listen", "127.0.0.1:16443", "address:port of the API server")
	agent := &nodeAgent{pods: map[types.UID]context.CancelFunc{}}
	flags.DurationVar(&agent.startDelay, "start-delay", 2*time.Second, "how long a pod takes to start or to fail to")
	flags.DurationVar(&agent.stopDelay, "stop-delay", time.Second, "how long a pod takes to stop")
	flags.DurationVar(&agent.runTime, "run-time", time.Second, "how long a container that ends by itself runs")
	flags.DurationVar(&agent.backOff, "back-off", 5*time.Second, "first wait between crashes, which doubles up to 5m, and wait between pulls")
	exitWithStdin := flags.Bool("exit-with-stdin", false, "exit at the end of standard input, so that no parent leaves it behind")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: kube-testbed --dir DIR [options] [-- kube-apiserver options]")
		flags.PrintDefaults()
	}
	flags.Parse(os.Args[1:])
	if *dir == "" {
		flags.Usage()
		os.Exit(2)
	}
	if *exitWithStdin {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			os.Exit(1)
		}()
	}
	if err := run(*dir, *listen, flags.Args(), agent); err != nil {
		fmt.Fprintln(os.Stderr, "kube-testbed:", err)
		os.Exit(1)
	}
}

// run starts everything and returns once the API server has stopped.
func run(dir, listen string, extraArgs []string, agent *nodeAgent) error {
	begin := time.Now()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// If another one is running on this port, fail before touching anything.
	probe, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	probe.Close()
	file := func(name string) string { return filepath.Join(dir, name) }
	os.Remove(file("READY")) // a SIGKILL leaves it behind
	if err := os.WriteFile(file("pid"), fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		return err
	}

	token, err := writeKeys(dir)
	if err != nil {
		return err
	}
	etcd, err := startEtcd(file("etcd"))
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer etcd.Close()

	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	apiserver := app.NewAPIServerCommand()
	apiserver.SetArgs(append([]string{
		"--etcd-servers=http://" + etcd.Clients[0].Addr().String(),
		"--bind-address=" + host,
		"--secure-port=" + port,
		"--cert-dir=" + file("certs"), // it makes its own certificate there
		"--token-auth-file=" + file("tokens.csv"),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + file("sa.key"),
		"--service-account-signing-key-file=" + file("sa.key"),
		"--service-cluster-ip-range=10.0.0.0/24",
		"--endpoint-reconciler-type=none", // nothing routes to the kubernetes Service
	}, extraArgs...))
	ctx := apiserver.Context() // ends on SIGINT or SIGTERM

	done := make(chan error, 1)
	go func() { done <- apiserver.Execute() }()
	go func() {
		if err := startRest(ctx, dir, "https://"+listen, token, agent); err != nil {
			if ctx.Err() == nil {
				done <- err
			}
			return
		}
		if err := os.WriteFile(file("READY"), nil, 0o600); err != nil {
			done <- err
		}
		fmt.Printf("kube-testbed: ready after %.1fs at https://%s, KUBECONFIG=%s\n",
			time.Since(begin).Seconds(), listen, file("kubeconfig"))
	}()
	err = <-done
	os.Remove(file("READY"))
	return err
}

// writeKeys makes, on the first start only, the admin's token and the key
// that signs ServiceAccount tokens. It returns the admin's token.
func writeKeys(dir string) (string, error) {
	key := filepath.Join(dir, "sa.key")
	if _, err := os.Stat(key); errors.Is(err, os.ErrNotExist) {
		pem, err := keyutil.MakeEllipticPrivateKeyPEM()
		if err != nil {
			return "", err
		}
		if err := keyutil.WriteKey(key, pem); err != nil {
			return "", err
		}
	}
	list := filepath.Join(dir, "tokens.csv") // token,user,uid,"groups"
	text, err := os.ReadFile(list)
	if errors.Is(err, os.ErrNotExist) {
		text = []byte(rand.Text() + ",testbed-admin,testbed-admin,\"system:masters\"\n")
		err = os.WriteFile(list, text, 0o600)
	}
	if err != nil {
		return "", err
	}
	token, _, _ := strings.Cut(string(text), ",")
	return token, nil
}

// startEtcd runs a one-member etcd on free loopback ports.
func startEtcd(dir string) (*embed.Etcd, error) {
	anyPort := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	config := embed.NewConfig()
	config.Dir = dir
	config.LogLevel = "error"
	config.EnableGRPCGateway = false // it would dial port 0
	config.ListenClientUrls, config.AdvertiseClientUrls = anyPort, anyPort
	config.ListenPeerUrls, config.AdvertisePeerUrls = anyPort, anyPort
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	// Pages reach the kernel, so the data outlives a SIGKILL of this process.
	// Only a crash of the machine could lose it, and tests do not care.
	config.UnsafeNoFsync = true
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case err = <-etcd.Err():
	case <-time.After(time.Minute):
		err = errors.New("not ready within a minute")
	}
	etcd.Close()
	return nil, err
}

// startRest waits for the API server, writes the admin kubeconfig and starts
// the controllers and the node agent. It returns when all of it is usable.
func startRest(ctx context.Context, dir, server, token string, agent *nodeAgent) error {
	certFile := filepath.Join(dir, "certs", "apiserver.crt")
	var config *rest.Config
	var client *kubernetes.Clientset
	err := poll(ctx, func() error {
		cert, err := os.ReadFile(certFile)
		if err != nil {
			return err
		}
		config = &rest.Config{Host: server, BearerToken: token, QPS: -1, UserAgent: "kube-testbed",
			TLSClientConfig: rest.TLSClientConfig{CAData: cert}}
		if client, err = kubernetes.NewForConfig(config); err != nil {
			return err
		}
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
	if err != nil {
		return fmt.Errorf("API server: %w", err)
	}
	if err := writeKubeconfig(dir, config); err != nil {
		return err
	}
	// Under these names the API server notes who has written what.
	as := func(name string) *rest.Config {
		named := rest.CopyConfig(config)
		named.UserAgent = name
		return named
	}
	if err := startControllers(ctx, as("kube-controller-manager")); err != nil {
		return fmt.Errorf("controllers: %w", err)
	}
	if err := agent.start(ctx, as("kubelet")); err != nil {
		return fmt.Errorf("node agent: %w", err)
	}
	// Pods are refused until the namespace has its ServiceAccount, so ready
	// means that the serviceaccount controller has been at work.
	return poll(ctx, func() error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// poll calls f until it succeeds, for a minute at most.
func poll(ctx context.Context, f func() error) error {
	for deadline := time.Now().Add(time.Minute); ; {
		err := f()
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func writeKubeconfig(dir string, config *rest.Config) error {
	out := clientcmdapi.NewConfig()
	out.Clusters["testbed"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	out.AuthInfos["admin"] = &clientcmdapi.AuthInfo{Token: config.BearerToken}
	out.Contexts["testbed"] = &clientcmdapi.Context{Cluster: "testbed", AuthInfo: "admin"}
	out.CurrentContext = "testbed"
	// The file a pod finds as /var/run/secrets/kubernetes.io/serviceaccount/ca.crt.
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), config.CAData, 0o644); err != nil {
		return err
	}
	return clientcmd.WriteToFile(*out, filepath.Join(dir, "kubeconfig"))
}

// noMetrics stands where a metrics server would be asked: there is none, so
// the autoscaler keeps to its bounds, and scales from no measurement.
type noMetrics struct{ metrics.MetricsClient }

func (noMetrics) GetResourceMetric(context.Context, v1.ResourceName, string, labels.Selector, string) (metrics.PodMetricsInfo, time.Time, error) {
	return nil, time.Time{}, errors.New("kube-testbed has no metrics server")
}

// startControllers starts the parts of kube-controller-manager that a
// workload needs from its creation to its deletion, and those that meddle
// with its replicas: quota and autoscaler.
func startControllers(ctx context.Context, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	metadataClient, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	typed := informers.NewSharedInformerFactory(client, 0)
	partial := metadatainformer.NewSharedInformerFactory(metadataClient, 0)
	apps, core := typed.Apps().V1(), typed.Core().V1()

	deployments, err := deployment.NewDeploymentController(ctx, apps.Deployments(), apps.ReplicaSets(), core.Pods(), client)
	if err != nil {
		return err
	}
	replicaSets := replicaset.NewReplicaSetController(ctx, apps.ReplicaSets(), core.Pods(), client, replicaset.BurstReplicas)
	accounts, err := serviceaccount.NewServiceAccountsController(klog.FromContext(ctx), core.ServiceAccounts(),
		core.Namespaces(), client, serviceaccount.DefaultServiceAccountsControllerOptions())
	if err != nil {
		return err
	}
	namespaces := namespace.NewNamespaceController(ctx, client, metadataClient,
		client.Discovery().ServerPreferredNamespacedResources, core.Namespaces(), 5*time.Minute, v1.FinalizerKubernetes)
	stateful := statefulset.NewStatefulSetController(ctx, core.Pods(), apps.StatefulSets(), core.PersistentVolumeClaims(),
		apps.ControllerRevisions(), client)
	started := make(chan struct{})
	factory := informerfactory.NewInformerFactory(typed, partial)
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))
	garbage, err := garbagecollector.NewGarbageCollector(ctx, client, metadataClient, mapper,
		garbagecollector.DefaultIgnoredResources(), factory, started)
	if err != nil {
		return err
	}
	resources := quota.NewQuotaConfigurationForControllers(generic.ListerFuncForResourceFunc(typed.ForResource), typed)
	quotas, err := resourcequota.NewController(ctx, &resourcequota.ControllerOptions{
		QuotaClient:               client.CoreV1(),
		ResourceQuotaInformer:     core.ResourceQuotas(),
		ResyncPeriod:              controller.StaticResyncPeriodFunc(5 * time.Minute),
		ReplenishmentResyncPeriod: controller.StaticResyncPeriodFunc(12 * time.Hour),
		InformerFactory:           factory,
		InformersStarted:          started,
		DiscoveryFunc:             client.Discovery().ServerPreferredNamespacedResources,
		IgnoredResourcesFunc:      resources.IgnoredResources,
		Registry:                  generic.NewRegistry(resources.Evaluators()),
		UpdateFilter:              quota.DefaultUpdateFilter(),
	})
	if err != nil {
		return err
	}
	scales, err := scale.NewForConfig(config, mapper, dynamic.LegacyAPIPathResolverFunc,
		scale.NewDiscoveryScaleKindResolver(client.Discovery()))
	if err != nil {
		return err
	}
	// The last five are the defaults of kube-controller-manager but for the
	// first, which is 15 s there: tests wait for it.
	autoscaler := podautoscaler.NewHorizontalController(ctx, client.CoreV1(), scales, client.AutoscalingV2(), mapper, noMetrics{},
		typed.Autoscaling().V2().HorizontalPodAutoscalers(), core.Pods(),
		2*time.Second, 5*time.Minute, 0.1, 5*time.Minute, 30*time.Second)

	typed.Start(ctx.Done())
	partial.Start(ctx.Done())
	close(started)
	go deployments.Run(ctx, 2)
	go replicaSets.Run(ctx, 2)
	go stateful.Run(ctx, 2)
	go quotas.Run(ctx, 2)
	go quotas.Sync(ctx, client.Discovery().ServerPreferredNamespacedResources, 30*time.Second)
	go autoscaler.Run(ctx, 2)
	go accounts.Run(ctx, 1)
	go namespaces.Run(ctx, 2)
	go garbage.Run(ctx, 2, 30*time.Second)
	go garbage.Sync(ctx, client.Discovery(), 30*time.Second)
	return nil
}
