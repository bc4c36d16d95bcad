/** How an API server is reached, and as whom. Carries secrets: nothing of it belongs into a message but `server`. */
export interface Access {
  /** The API server's URL, without a slash at the end. */
  readonly server: string
  readonly tls: {
    readonly ca?: Buffer
    readonly cert?: Buffer | string
    readonly key?: Buffer | string
    readonly rejectUnauthorized?: boolean
    readonly servername?: string
  }
  readonly headers: Readonly<Record<string, string>>
  /** Where a token stands that is replaced from time to time: it is read for each request. */
  readonly tokenFile?: string
  /** An HTTP proxy's URL. */
  readonly proxy?: string
}

/** Which cluster, and as whom. */
export interface ClusterChoice {
  /** Path of a kubeconfig; where there is none, what kubectl would take, or else the service account of this pod. */
  readonly kubeconfig?: string
  /** One of the kubeconfig's contexts; its current one where absent. */
  readonly context?: string
}
